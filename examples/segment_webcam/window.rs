//! The window: uploads, paints and presents frames, and handles keys. It never waits for the camera
//! or the network.

use crate::capture::{self, CaptureEvent, Mailbox, Source};
use crate::draw::Kind;
use crate::figures::Figures;
use crate::keys::{self, Action};
use crate::options::Options;
use crate::panel::Panel;
use crate::signals;
use crate::stage::Stage;
use crate::worker::{self, Setup, WorkerEvent};
use atrous::Size;
use atrous::engine::exec::Device;
use atrous::engine::gpu::Gpu;
use atrous::image::{Image, SizeRule};
use atrous::{DeviceChoice, Error, ErrorKind, Model, Result};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use winit::application::ApplicationHandler;
use winit::dpi::PhysicalSize;
use winit::event::{ElementState, WindowEvent};
use winit::event_loop::{ActiveEventLoop, EventLoop, EventLoopProxy};
use winit::window::{Window, WindowId};

/// Display time of a message.
const MESSAGE: Duration = Duration::from_secs(6);
/// Long sides of the network's input that plus and minus step through.
const SIDES: [usize; 10] = [97, 129, 193, 257, 321, 385, 449, 513, 641, 769];

/// Messages from other threads to the window.
enum Event {
    Capture(CaptureEvent),
    Network(WorkerEvent),
    /// A PNG was saved, or saving failed.
    Saved(Result<PathBuf>),
    /// The program was interrupted.
    Stop,
}

/// Requirements of an X11 or Wayland window that a minimal system may lack.
fn advice() -> &'static str {
    if cfg!(target_os = "linux") {
        "set DISPLAY or WAYLAND_DISPLAY, and for X11 install the Debian packages libx11-6, libxcursor1, libxi6, libxkbcommon0 and libxkbcommon-x11-0, or run without a window with --frames N --save DIR"
    } else {
        "run without a window with --frames N --save DIR"
    }
}

fn window_error(e: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Device, "could not open a window").source(e).advice(advice())
}

/// Opens the window and runs until it is closed.
pub fn run(options: Options, model: Model, source: Box<dyn Source>) -> Result<()> {
    let choice: DeviceChoice = options.device.parse()?;
    if choice == DeviceChoice::Cpu {
        return Err(Error::new(ErrorKind::Usage, "a window needs a GPU")
            .advice("use --frames N --save DIR to run on the CPU"));
    }
    // X11 libraries are loaded only now, and winit panics if one of them is missing.
    let event_loop = std::panic::catch_unwind(|| EventLoop::<Event>::with_user_event().build())
        .map_err(|_| {
            Error::new(ErrorKind::Device, "could not open a window: a library is missing")
                .advice(advice())
        })?
        .map_err(window_error)?;
    let background = options.behind.as_ref().map(atrous::image::decode).transpose()?.map(Arc::new);
    let size = crate::first_size(&options, &model, source.size());
    let mut app = App {
        frame_size: source.size(),
        source: Some(source),
        choice,
        model: Arc::new(model),
        background,
        size,
        options,
        proxy: event_loop.create_proxy(),
        mailbox: Mailbox::default(),
        stage: None,
        failure: None,
        last_pixels: None,
        message: None,
        figures: Figures::default(),
        saved: 0,
    };
    let proxy = app.proxy.clone();
    signals::on_stop(move || drop(proxy.send_event(Event::Stop)));
    let ran = event_loop.run_app(&mut app).map_err(window_error);
    app.stop();
    app.figures.print();
    ran.and(app.failure.take().map_or(Ok(()), Err))
}

struct App {
    options: Options,
    choice: DeviceChoice,
    model: Arc<Model>,
    background: Option<Arc<Image>>,
    source: Option<Box<dyn Source>>,
    frame_size: Size,
    size: SizeRule,
    proxy: EventLoopProxy<Event>,
    mailbox: Mailbox,
    stage: Option<Stage>,
    failure: Option<Error>,
    /// The latest frame, uploaded again when the network changes.
    last_pixels: Option<Vec<u32>>,
    message: Option<(String, Instant)>,
    figures: Figures,
    saved: usize,
}

impl ApplicationHandler<Event> for App {
    fn resumed(&mut self, event_loop: &ActiveEventLoop) {
        if self.stage.is_some() {
            return;
        }
        let Size { width: w, height: h } = self.frame_size;
        let attributes = Window::default_attributes()
            .with_title("segment_webcam")
            .with_inner_size(PhysicalSize::new(w as u32, h as u32));
        let opened = event_loop
            .create_window(attributes)
            .map_err(window_error)
            .and_then(|w| self.open(event_loop, Arc::new(w)));
        self.or_exit(event_loop, opened);
    }

    fn user_event(&mut self, event_loop: &ActiveEventLoop, event: Event) {
        let result = match event {
            Event::Capture(CaptureEvent::Frame) => self.redraw(),
            Event::Capture(CaptureEvent::Ended) => {
                self.show_message("the source has ended; Q quits")
            }
            Event::Capture(CaptureEvent::Failed(text)) => {
                eprintln!("{text}");
                self.show_message(&text.replace('\n', " "))
            }
            Event::Network(event) => self.worker_event(event_loop, event),
            Event::Stop => {
                event_loop.exit();
                Ok(())
            }
            Event::Saved(Ok(path)) => self.show_message(&format!("saved {}", path.display())),
            Event::Saved(Err(e)) => {
                self.show_message(&format!("could not save: {e}").replace('\n', " "))
            }
        };
        self.or_exit(event_loop, result);
    }

    fn window_event(&mut self, event_loop: &ActiveEventLoop, _: WindowId, event: WindowEvent) {
        let result = match event {
            WindowEvent::CloseRequested => {
                event_loop.exit();
                Ok(())
            }
            WindowEvent::Resized(size) => self.resize(size),
            WindowEvent::Occluded(false) => self.redraw(),
            WindowEvent::RedrawRequested => self.present(event_loop),
            WindowEvent::KeyboardInput { event, .. } if event.state == ElementState::Pressed => {
                match keys::action(&event.logical_key) {
                    Some(Action::Quit) => {
                        event_loop.exit();
                        Ok(())
                    }
                    Some(action) => self.act(action),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        };
        self.or_exit(event_loop, result);
    }
}

impl App {
    /// Exits if an error is fatal.
    fn or_exit(&mut self, event_loop: &ActiveEventLoop, result: Result<()>) {
        if let Err(e) = result {
            self.failure.get_or_insert(e);
            event_loop.exit();
        }
    }

    fn stop(&mut self) {
        if let Some(stage) = &self.stage {
            stage.worker.end();
        }
    }

    /// Opens device and network for the window, and starts the threads.
    fn open(&mut self, event_loop: &ActiveEventLoop, window: Arc<Window>) -> Result<()> {
        let display = Box::new(event_loop.owned_display_handle());
        let (gpu, surface) = Gpu::open_for(&self.choice, display, window.clone())?;
        let device = Device::Gpu(gpu.clone());
        println!("device: {device}");
        let setup = Setup {
            device,
            model: self.model.clone(),
            frame: self.frame_size,
            background: self.background.clone(),
            smooth: self.options.smooth,
            slice: Duration::from_secs_f64(self.options.slice / 1e3),
        };
        let stage =
            Stage::new(window, gpu, surface, Arc::new(setup.live(self.size)?), &self.options)?;
        let proxy = self.proxy.clone();
        let send = move |event| proxy.send_event(Event::Network(event)).is_ok();
        worker::start(setup, stage.live.clone(), stage.worker.clone(), send);
        self.stage = Some(stage);
        if let Some(source) = self.source.take() {
            let proxy = self.proxy.clone();
            let send = move |event| proxy.send_event(Event::Capture(event)).is_ok();
            capture::start(source, self.options.rate, self.mailbox.clone(), send);
        }
        self.upload_again()
    }

    /// Uploads the latest frame to a new network.
    fn upload_again(&mut self) -> Result<()> {
        if let (Some(stage), Some(pixels)) = (&mut self.stage, &self.last_pixels) {
            stage.live.set_frame(pixels)?;
            stage.worker.frame();
            (stage.stale, stage.busy) = (true, true);
        }
        self.redraw()
    }

    fn redraw(&self) -> Result<()> {
        if let Some(stage) = &self.stage {
            stage.window.request_redraw();
        }
        Ok(())
    }

    fn show_message(&mut self, text: &str) -> Result<()> {
        self.message = Some((text.to_owned(), Instant::now()));
        if let Some(stage) = &mut self.stage {
            stage.renderer.set_panel(Kind::Message, Some(&Panel::lines(&[text])), &stage.live);
        }
        self.redraw()
    }

    fn worker_event(&mut self, event_loop: &ActiveEventLoop, event: WorkerEvent) -> Result<()> {
        match event {
            WorkerEvent::Scores { time, slices } => {
                self.figures.network(time, slices);
                if let Some(stage) = &mut self.stage {
                    (stage.stale, stage.busy) = (true, false);
                }
                self.redraw()
            }
            WorkerEvent::Ready(live) => {
                let Some(stage) = &mut self.stage else { return Ok(()) };
                stage.set_live(live)?;
                self.upload_again()
            }
            WorkerEvent::Refused(text) => self.show_message(&text.replace('\n', " ")),
            WorkerEvent::Failed(e) if e.kind() == ErrorKind::DeviceLost => {
                self.reopen(event_loop, "the device was lost")
            }
            WorkerEvent::Failed(e) => Err(e),
        }
    }

    /// Reopens device and network for the same window.
    fn reopen(&mut self, event_loop: &ActiveEventLoop, why: &str) -> Result<()> {
        eprintln!("{why}; reopening it");
        self.stop();
        let Some(stage) = self.stage.take() else { return Ok(()) };
        // Drop the surface before creating a new one for the same window.
        let (window, view) = stage.into_window();
        self.open(event_loop, window)?;
        match &mut self.stage {
            Some(stage) => {
                stage.view = view;
                stage.apply()
            }
            None => Ok(()),
        }
    }

    fn resize(&mut self, size: PhysicalSize<u32>) -> Result<()> {
        let Some(stage) = &mut self.stage else { return Ok(()) };
        stage.resize(size);
        self.redraw()
    }

    /// Uploads the latest frame, paints if anything changed, draws and presents.
    fn present(&mut self, event_loop: &ActiveEventLoop) -> Result<()> {
        let started = Instant::now();
        let Some(stage) = &mut self.stage else { return Ok(()) };
        let inner = stage.window.inner_size();
        if inner.width == 0 || inner.height == 0 {
            return Ok(());
        }
        // In sync mode, paint the frame that the scores belong to before the next one is uploaded.
        let in_step = stage.view.in_step;
        if in_step && !stage.busy && std::mem::take(&mut stage.stale) {
            stage.live.paint()?;
        }
        if !(in_step && stage.busy)
            && let Some(frame) = self.mailbox.take().filter(|_| !stage.view.frozen)
        {
            self.figures.capture(frame.capture_time);
            stage.live.set_frame(&frame.pixels)?;
            self.last_pixels = Some(frame.pixels);
            stage.worker.frame();
            (stage.stale, stage.busy) = (true, true);
        }
        if !in_step && std::mem::take(&mut stage.stale) {
            stage.live.paint()?;
        }
        if self.message.as_ref().is_some_and(|(_, since)| since.elapsed() > MESSAGE) {
            self.message = None;
            stage.renderer.set_panel(Kind::Message, None, &stage.live);
        }
        if let Some(figures) = self.figures.due() {
            stage.show_status(figures);
        }
        if self.options.lose_device.take_if(|after| self.figures.presented() >= *after).is_some() {
            stage.gpu.device().destroy();
        }
        let texture = match stage.surface.get_current_texture() {
            wgpu::CurrentSurfaceTexture::Success(texture)
            | wgpu::CurrentSurfaceTexture::Suboptimal(texture) => texture,
            wgpu::CurrentSurfaceTexture::Outdated => return self.resize(inner),
            wgpu::CurrentSurfaceTexture::Lost => {
                return self.reopen(event_loop, "the window's surface was lost");
            }
            // The window is hidden or the driver is busy: the next frame tries again.
            wgpu::CurrentSurfaceTexture::Timeout | wgpu::CurrentSurfaceTexture::Occluded => {
                return Ok(());
            }
            wgpu::CurrentSurfaceTexture::Validation => return stage.gpu.check(),
        };
        stage.renderer.draw(
            &texture.texture,
            [texture.texture.width() as f32, texture.texture.height() as f32],
        );
        stage.window.pre_present_notify();
        stage.gpu.queue().present(texture);
        self.figures.present(started);
        match stage.gpu.check() {
            Err(e) if e.kind() == ErrorKind::DeviceLost => {
                self.reopen(event_loop, "the device was lost")
            }
            result => result,
        }
    }

    fn act(&mut self, action: Action) -> Result<()> {
        let Some(stage) = &mut self.stage else { return Ok(()) };
        let view = &mut stage.view;
        match action {
            Action::Style(steps) => view.change_style(steps),
            Action::Opacity(delta) => view.change_opacity(delta),
            Action::Select(steps) => view.select(steps),
            Action::Toggle => view.toggle(),
            Action::ToggleAll => view.toggle_all(),
            Action::Mirror => view.mirror ^= true,
            Action::Freeze => view.frozen ^= true,
            Action::Step => view.in_step ^= true,
            Action::Help => view.help ^= true,
            Action::Save => self.save(),
            Action::Size(steps) => return self.change_size(steps),
            Action::Quit => {}
        }
        self.figures.refresh();
        let Some(stage) = &mut self.stage else { return Ok(()) };
        stage.apply()?;
        self.redraw()
    }

    fn change_size(&mut self, steps: isize) -> Result<()> {
        let Some(stage) = &self.stage else { return Ok(()) };
        let Size { width: w, height: h } = stage.live.fit().padded;
        let now = w.max(h);
        let next = if steps > 0 {
            SIDES.into_iter().find(|&s| s > now)
        } else {
            SIDES.into_iter().rev().find(|&s| s < now)
        };
        let Some(side) = next else { return self.show_message("no further size") };
        self.size = SizeRule::LongSide(side);
        stage.worker.size(self.size);
        self.show_message(&format!("preparing the network for {side} x {side}"))
    }

    /// Saves the painted frame on a separate thread, because reading it back waits for the device.
    fn save(&mut self) {
        let Some(stage) = &self.stage else { return };
        let directory = self.options.save.clone().unwrap_or_default();
        // Do not overwrite files of earlier runs.
        let names =
            (self.saved + 1..).map(|n| (n, directory.join(format!("segment_webcam-{n:04}.png"))));
        let Some((number, path)) = names.into_iter().find(|(_, path)| !path.exists()) else {
            return;
        };
        self.saved = number;
        let (live, proxy) = (stage.live.clone(), self.proxy.clone());
        std::thread::spawn(move || {
            let created = std::fs::create_dir_all(if directory.as_os_str().is_empty() {
                ".".as_ref()
            } else {
                directory.as_path()
            });
            let created = created.map_err(|e| Error::io(&directory, "could not be created", e));
            let saved = created.and_then(|()| live.painted()?.save(&path));
            // This fails if the window has been closed.
            drop(proxy.send_event(Event::Saved(saved.map(|_| path))));
        });
    }
}
