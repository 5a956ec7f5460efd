//! What the window shows and how: everything that belongs to the device, made anew when it or the
//! surface is lost.

use crate::draw::{Kind, Renderer};
use crate::keys;
use crate::options::Options;
use crate::panel::Panel;
use crate::view::View;
use crate::worker::Worker;
use atrous::exec::Device;
use atrous::gpu::Gpu;
use atrous::live::Live;
use atrous::{Error, ErrorKind, Result};
use std::sync::Arc;
use winit::dpi::PhysicalSize;
use winit::window::Window;

pub struct Stage {
    pub window: Arc<Window>,
    pub gpu: Arc<Gpu>,
    pub surface: wgpu::Surface<'static>,
    config: wgpu::SurfaceConfiguration,
    pub renderer: Renderer,
    pub live: Arc<Live>,
    pub view: View,
    pub worker: Worker,
    /// Whether the painted frame is behind frame, scores or look.
    pub stale: bool,
    /// Whether the network has a frame that it has not finished.
    pub busy: bool,
}

impl Stage {
    pub fn new(
        window: Arc<Window>,
        gpu: Arc<Gpu>,
        surface: wgpu::Surface<'static>,
        live: Arc<Live>,
        options: &Options,
    ) -> Result<Stage> {
        let size = window.inner_size();
        let mut config = surface
            .get_default_config(gpu.adapter(), size.width.max(1), size.height.max(1))
            .ok_or_else(|| {
                Error::new(ErrorKind::Device, "the window cannot be drawn on")
                    .at(gpu.summary().name.clone())
            })?;
        // Painted frames are sRGB already: nothing may be encoded a second time.
        config.format = config.format.remove_srgb_suffix();
        surface.configure(gpu.device(), &config);
        let renderer = Renderer::new(&gpu, config.format, window.scale_factor());
        let view = View::new(&live, options.style, options.color, options.mirror, options.in_step);
        let worker = Worker::default();
        let mut stage = Stage {
            window,
            gpu,
            surface,
            config,
            renderer,
            live: live.clone(),
            view,
            worker,
            stale: true,
            busy: false,
        };
        stage.adopt(live)?;
        Ok(stage)
    }

    /// Lets go of everything but the window and how it looks.
    pub fn into_window(self) -> (Arc<Window>, View) {
        (self.window, self.view)
    }

    /// A window that is minimized has no size on some systems: it is left alone until it has one
    /// again.
    pub fn resize(&mut self, size: PhysicalSize<u32>) {
        if size.width > 0 && size.height > 0 {
            (self.config.width, self.config.height) = (size.width, size.height);
            // It waits until the device is idle, which it never is while the network goes on.
            let _turn = self.gpu.pause_submissions();
            self.surface.configure(self.gpu.device(), &self.config);
        }
    }

    /// Paints and draws with this network from now on.
    pub fn adopt(&mut self, live: Arc<Live>) -> Result<()> {
        self.live = live;
        self.renderer.show(&self.live);
        self.apply()
    }

    /// Brings look and panels to the state behind the keys.
    pub fn apply(&mut self) -> Result<()> {
        self.live.set_style(&self.view.painted(&self.live))?;
        let view = &self.view;
        let row =
            |(i, name): (usize, &String)| (name.clone(), view.class_color(i), view.is_shown(i));
        let rows: Vec<_> = view.names.iter().enumerate().map(row).collect();
        self.renderer.set_panel(
            Kind::Classes,
            Some(&Panel::classes(&rows, view.chosen)),
            &self.live,
        );
        if view.help != self.renderer.has(Kind::Help) {
            let panel = view.help.then(|| Panel::lines(&keys::HELP));
            self.renderer.set_panel(Kind::Help, panel.as_ref(), &self.live);
        }
        self.stale = true;
        Ok(())
    }

    /// The lines at the top: `figures`, what the network sees and how it is shown, the device.
    pub fn show_status(&mut self, figures: String) {
        let (w, h) = self.live.fit().padded;
        let chosen = self.view.chosen;
        let class = &self.view.names[chosen];
        let shown = if self.view.is_shown(chosen) { "shown" } else { "hidden" };
        let lines = [
            figures,
            format!("{w}x{h}  {}  {class}: {shown}", self.view.describe()),
            Device::Gpu(self.gpu.clone()).to_string(),
        ];
        self.renderer.set_panel(Kind::Status, Some(&Panel::lines(&lines)), &self.live);
    }
}
