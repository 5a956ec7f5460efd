//! The window: uploads frames, paints and presents them, and takes keys. It never waits for camera
//! or network.

use crate::capture::{self, Mailbox, News, Source};
use crate::draw::Kind;
use crate::figures::Figures;
use crate::keys::{self, Action};
use crate::options::Options;
use crate::panel::Panel;
use crate::signals;
use crate::stage::Stage;
use crate::worker::{self, Setup, Told};
use atrous::exec::Device;
use atrous::gpu::Gpu;
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

/// A message stays for so long.
const MESSAGE: Duration = Duration::from_secs(6);
/// Long sides of the network's input that plus and minus go through.
const SIDES: [usize; 10] = [97, 129, 193, 257, 321, 385, 449, 513, 641, 769];

/// What other threads tell the window's.
enum Event {
    Capture(News),
    Network(Told),
    /// A PNG was written, or not.
    Saved(Result<PathBuf>),
    /// The program was interrupted.
    Stop,
}

/// What an X11 or Wayland window needs and a bare system lacks.
fn advice() -> &'static str {
    match cfg!(target_os = "linux") {
        true => {
            "a window needs DISPLAY or WAYLAND_DISPLAY, and under X11 the libraries libx11-6, libxcursor1, libxi6, libxkbcommon0 and \
             libxkbcommon-x11-0 (names of Debian's packages); --frames N --save DIR needs no window"
        }
        false => "--frames N --save DIR needs no window",
    }
}

fn window_error(e: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Device, "no window can be opened").source(e).advice(advice())
}

/// Opens the window and runs until it is closed.
pub fn run(options: Options, model: Model, source: Box<dyn Source>) -> Result<()> {
    let choice: DeviceChoice = options.device.parse()?;
    if choice == DeviceChoice::Cpu {
        return Err(Error::new(ErrorKind::Usage, "a window needs a GPU")
            .advice("--frames N --save DIR runs on the processor"));
    }
    // The libraries of X11 are loaded only now, and some of them are not asked for politely.
    let event_loop = std::panic::catch_unwind(|| EventLoop::<Event>::with_user_event().build())
        .map_err(|_| {
            Error::new(ErrorKind::Device, "no window can be opened: a library is missing")
                .advice(advice())
        })?
        .map_err(window_error)?;
    let behind = options.behind.as_ref().map(atrous::image::decode).transpose()?.map(Arc::new);
    let size = crate::first_size(&options, &model, source.size());
    let mut app = App {
        frame_size: source.size(),
        source: Some(source),
        choice,
        model: Arc::new(model),
        behind,
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
    behind: Option<Arc<Image>>,
    source: Option<Box<dyn Source>>,
    frame_size: (usize, usize),
    size: SizeRule,
    proxy: EventLoopProxy<Event>,
    mailbox: Mailbox,
    stage: Option<Stage>,
    failure: Option<Error>,
    /// The newest frame, for a network of another size.
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
        let (w, h) = self.frame_size;
        let attributes = Window::default_attributes()
            .with_title("segment_webcam")
            .with_inner_size(PhysicalSize::new(w as u32, h as u32));
        let made = event_loop
            .create_window(attributes)
            .map_err(window_error)
            .and_then(|w| self.open(event_loop, Arc::new(w)));
        self.or_exit(event_loop, made);
    }

    fn user_event(&mut self, event_loop: &ActiveEventLoop, event: Event) {
        let done = match event {
            Event::Capture(News::Frame) => self.redraw(),
            Event::Capture(News::Ended) => self.say("the source has ended; Q quits"),
            Event::Capture(News::Failed(text)) => {
                eprintln!("{text}");
                self.say(&text.replace('\n', " "))
            }
            Event::Network(told) => self.told(event_loop, told),
            Event::Stop => {
                event_loop.exit();
                Ok(())
            }
            Event::Saved(Ok(path)) => self.say(&format!("saved {}", path.display())),
            Event::Saved(Err(e)) => self.say(&format!("not saved: {e}").replace('\n', " ")),
        };
        self.or_exit(event_loop, done);
    }

    fn window_event(&mut self, event_loop: &ActiveEventLoop, _: WindowId, event: WindowEvent) {
        let done = match event {
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
        self.or_exit(event_loop, done);
    }
}

impl App {
    /// Ends the program where something failed for good.
    fn or_exit(&mut self, event_loop: &ActiveEventLoop, done: Result<()>) {
        if let Err(e) = done {
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
            behind: self.behind.clone(),
            smooth: self.options.smooth,
            slice: Duration::from_secs_f64(self.options.slice / 1e3),
        };
        let stage =
            Stage::new(window, gpu, surface, Arc::new(setup.live(self.size)?), &self.options)?;
        let proxy = self.proxy.clone();
        let tell = move |told| proxy.send_event(Event::Network(told)).is_ok();
        worker::start(setup, stage.live.clone(), stage.worker.clone(), tell);
        self.stage = Some(stage);
        if let Some(source) = self.source.take() {
            let proxy = self.proxy.clone();
            let tell = move |news| proxy.send_event(Event::Capture(news)).is_ok();
            capture::start(source, self.options.rate, self.mailbox.clone(), tell);
        }
        self.upload_again()
    }

    /// Gives a new network the newest frame.
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

    fn say(&mut self, text: &str) -> Result<()> {
        self.message = Some((text.to_owned(), Instant::now()));
        if let Some(stage) = &mut self.stage {
            stage.renderer.set_panel(Kind::Message, Some(&Panel::lines(&[text])), &stage.live);
        }
        self.redraw()
    }

    fn told(&mut self, event_loop: &ActiveEventLoop, told: Told) -> Result<()> {
        match told {
            Told::Scores { time, slices } => {
                self.figures.network(time, slices);
                if let Some(stage) = &mut self.stage {
                    (stage.stale, stage.busy) = (true, false);
                }
                self.redraw()
            }
            Told::Ready(live) => {
                let Some(stage) = &mut self.stage else { return Ok(()) };
                stage.adopt(live)?;
                self.upload_again()
            }
            Told::Refused(text) => self.say(&text.replace('\n', " ")),
            Told::Failed(e) if e.kind() == ErrorKind::DeviceLost => {
                self.reopen(event_loop, "the device was lost")
            }
            Told::Failed(e) => Err(e),
        }
    }

    /// Begins anew on the same window.
    fn reopen(&mut self, event_loop: &ActiveEventLoop, why: &str) -> Result<()> {
        eprintln!("{why}; opening it again");
        self.stop();
        let Some(stage) = self.stage.take() else { return Ok(()) };
        // The surface goes before a new one is made for its window.
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

    /// Uploads the newest frame, paints where anything changed, draws and presents.
    fn present(&mut self, event_loop: &ActiveEventLoop) -> Result<()> {
        let started = Instant::now();
        let Some(stage) = &mut self.stage else { return Ok(()) };
        let inner = stage.window.inner_size();
        if inner.width == 0 || inner.height == 0 {
            return Ok(());
        }
        // In step, what is painted is the frame that the scores are of, before the next one is
        // uploaded.
        let in_step = stage.view.in_step;
        if in_step && !stage.busy && std::mem::take(&mut stage.stale) {
            stage.live.paint()?;
        }
        if !(in_step && stage.busy)
            && let Some(frame) = self.mailbox.take().filter(|_| !stage.view.frozen)
        {
            self.figures.capture(frame.took);
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
            // Hidden, or a driver that is busy: the next frame asks again.
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
            done => done,
        }
    }

    fn act(&mut self, action: Action) -> Result<()> {
        let Some(stage) = &mut self.stage else { return Ok(()) };
        let view = &mut stage.view;
        match action {
            Action::Style(steps) => view.change_style(steps),
            Action::Opacity(by) => view.change_opacity(by),
            Action::Choose(steps) => view.choose(steps),
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
        self.figures.hurry();
        let Some(stage) = &mut self.stage else { return Ok(()) };
        stage.apply()?;
        self.redraw()
    }

    fn change_size(&mut self, steps: isize) -> Result<()> {
        let Some(stage) = &self.stage else { return Ok(()) };
        let (w, h) = stage.live.fit().padded;
        let now = w.max(h);
        let next = match steps > 0 {
            true => SIDES.into_iter().find(|&s| s > now),
            false => SIDES.into_iter().rev().find(|&s| s < now),
        };
        let Some(side) = next else { return self.say("there is no further size") };
        self.size = SizeRule::LongSide(side);
        stage.worker.size(self.size);
        self.say(&format!("making the network ready for {side} x {side}"))
    }

    /// Writes the painted frame in a thread of its own: reading it back waits for the device.
    fn save(&mut self) {
        let Some(stage) = &self.stage else { return };
        let directory = self.options.save.clone().unwrap_or_default();
        // What an earlier run saved stays.
        let names =
            (self.saved + 1..).map(|n| (n, directory.join(format!("segment_webcam-{n:04}.png"))));
        let Some((number, path)) = names.into_iter().find(|(_, path)| !path.exists()) else {
            return;
        };
        self.saved = number;
        let (live, proxy) = (stage.live.clone(), self.proxy.clone());
        std::thread::spawn(move || {
            let made = std::fs::create_dir_all(if directory.as_os_str().is_empty() {
                ".".as_ref()
            } else {
                directory.as_path()
            });
            let made = made.map_err(|e| Error::io(&directory, "could not be made", e));
            let done = made.and_then(|()| live.painted()?.save(&path));
            // After the window has closed nobody listens, which is fine.
            drop(proxy.send_event(Event::Saved(done.map(|_| path))));
        });
    }
}
