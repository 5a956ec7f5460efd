//! The window's device-dependent state, recreated when the device or the surface is lost.

use crate::draw::{Kind, Renderer};
use crate::keys;
use crate::options::Options;
use crate::panel::Panel;
use crate::view::View;
use crate::worker::Worker;
use atrous::Size;
use atrous::engine::exec::Device;
use atrous::engine::gpu::Gpu;
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
    /// Whether the painted frame is older than the frame, the scores or the style.
    pub stale: bool,
    /// Whether the network is processing a frame.
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
                Error::new(ErrorKind::Device, "cannot draw to the window")
                    .at(gpu.summary().name.clone())
            })?;
        // Painted frames are already sRGB and must not be encoded again.
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
        stage.set_live(live)?;
        Ok(stage)
    }

    /// Drops everything except the window and its display state.
    pub fn into_window(self) -> (Arc<Window>, View) {
        (self.window, self.view)
    }

    /// Resizes the surface. A minimized window has no size on some systems and is ignored.
    pub fn resize(&mut self, size: PhysicalSize<u32>) {
        if size.width > 0 && size.height > 0 {
            (self.config.width, self.config.height) = (size.width, size.height);
            // It waits until the device is idle, which it never is while the network goes on.
            let _turn = self.gpu.pause_submissions();
            self.surface.configure(self.gpu.device(), &self.config);
        }
    }

    /// Switches to another network.
    pub fn set_live(&mut self, live: Arc<Live>) -> Result<()> {
        self.live = live;
        self.renderer.show(&self.live);
        self.apply()
    }

    /// Updates style and panels from the display state.
    pub fn apply(&mut self) -> Result<()> {
        self.live.set_style(&self.view.live_style(&self.live))?;
        let view = &self.view;
        let row =
            |(i, name): (usize, &String)| (name.clone(), view.class_color(i), view.is_shown(i));
        let rows: Vec<_> = view.names.iter().enumerate().map(row).collect();
        self.renderer.set_panel(
            Kind::Classes,
            Some(&Panel::classes(&rows, view.selected)),
            &self.live,
        );
        if view.help != self.renderer.has(Kind::Help) {
            let panel = view.help.then(|| Panel::lines(&keys::HELP));
            self.renderer.set_panel(Kind::Help, panel.as_ref(), &self.live);
        }
        self.stale = true;
        Ok(())
    }

    /// Shows the status lines: `figures`, the network's input size and display settings, and the
    /// device.
    pub fn show_status(&mut self, figures: String) {
        let Size { width: w, height: h } = self.live.fit().padded;
        let selected = self.view.selected;
        let class = &self.view.names[selected];
        let shown = if self.view.is_shown(selected) { "shown" } else { "hidden" };
        let lines = [
            figures,
            format!("{w}x{h}  {}  {class}: {shown}", self.view.describe()),
            Device::Gpu(self.gpu.clone()).to_string(),
        ];
        self.renderer.set_panel(Kind::Status, Some(&Panel::lines(&lines)), &self.live);
    }
}
