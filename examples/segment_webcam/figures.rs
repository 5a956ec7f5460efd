//! How quick it all is.

use std::time::{Duration, Instant};

/// The line of figures is written anew after so long.
const INTERVAL: Duration = Duration::from_millis(500);

/// Times since the last line, and since the beginning.
#[derive(Default)]
pub struct Figures {
    since: Option<Instant>,
    frames: u32,
    presenting: Duration,
    capture: Duration,
    network: Option<(Duration, usize)>,
    total: Total,
}

#[derive(Default)]
struct Total {
    first: Option<Instant>,
    last: Option<Instant>,
    frames: u32,
    presenting: Duration,
    /// Between two presentations.
    gaps: Vec<Duration>,
    runs: u32,
    running: Duration,
}

impl Figures {
    /// A frame came, after so long.
    pub fn capture(&mut self, took: Duration) {
        self.capture = took;
    }

    /// The network ran, in so many slices.
    pub fn network(&mut self, time: Duration, slices: usize) {
        self.network = Some((time, slices));
        self.total.runs += 1;
        self.total.running += time;
    }

    /// Something was presented; work on it began at `started`.
    pub fn present(&mut self, started: Instant) {
        let now = Instant::now();
        self.frames += 1;
        self.presenting += now - started;
        let total = &mut self.total;
        total.frames += 1;
        total.presenting += now - started;
        total.first.get_or_insert(now);
        if let Some(last) = total.last.replace(now) {
            total.gaps.push(now - last);
        }
    }

    /// Frames presented since the beginning.
    pub fn presented(&self) -> u32 {
        self.total.frames
    }

    /// Lets the next line come at once.
    pub fn hurry(&mut self) {
        self.since = self.since.map(|since| since.checked_sub(INTERVAL).unwrap_or(since));
    }

    /// The line, where it is time for it.
    pub fn due(&mut self) -> Option<String> {
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() < INTERVAL || self.frames == 0 {
            return None;
        }
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let rate = f64::from(self.frames) / since.elapsed().as_secs_f64();
        let network = match self.network {
            Some((time, slices)) => format!("{:.0} ms in {slices} slices", ms(time)),
            None => "is being made ready".into(),
        };
        let present = ms(self.presenting / self.frames);
        let line = format!(
            "{rate:.0} frames/s  capture {:.0} ms  network {network}  present {present:.1} ms",
            ms(self.capture)
        );
        (self.since, self.frames, self.presenting) = (Some(Instant::now()), 0, Duration::ZERO);
        Some(line)
    }

    /// Tells at the end how it was.
    pub fn print(&mut self) {
        let Total { first: Some(first), last: Some(last), frames, presenting, gaps, runs, running } =
            &mut self.total
        else {
            return;
        };
        gaps.sort();
        let seconds = (*last - *first).as_secs_f64();
        let percentile =
            |p: usize| gaps.get(gaps.len() * p / 100).map_or(0.0, |g| g.as_secs_f64() * 1e3);
        println!(
            "window: {frames} frames in {seconds:.1} s, {:.1} a second; {:.1} ms of work each; gaps: half below {:.0} ms, 95 % below {:.0} ms",
            f64::from(*frames - 1) / seconds.max(1e-3),
            presenting.as_secs_f64() * 1e3 / f64::from(*frames),
            percentile(50),
            percentile(95)
        );
        if *runs > 0 {
            println!(
                "network: {runs} runs, {:.0} ms each",
                running.as_secs_f64() * 1e3 / f64::from(*runs)
            );
        }
    }
}
