//! Timing statistics.

use std::time::{Duration, Instant};

/// Update interval of the status line.
const INTERVAL: Duration = Duration::from_millis(500);

/// Statistics since the last status line, and since the start.
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
    /// Times between two presented frames.
    gaps: Vec<Duration>,
    runs: u32,
    running: Duration,
}

impl Figures {
    /// Records the time that capturing a frame took.
    pub fn capture(&mut self, took: Duration) {
        self.capture = took;
    }

    /// Records a run of the network.
    pub fn network(&mut self, time: Duration, slices: usize) {
        self.network = Some((time, slices));
        self.total.runs += 1;
        self.total.running += time;
    }

    /// Records a presented frame; work on it began at `started`.
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

    /// Returns the number of frames presented since the start.
    pub fn presented(&self) -> u32 {
        self.total.frames
    }

    /// Makes the next status line due immediately.
    pub fn refresh(&mut self) {
        self.since = self.since.map(|since| since.checked_sub(INTERVAL).unwrap_or(since));
    }

    /// Returns the status line if it is due.
    pub fn due(&mut self) -> Option<String> {
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() < INTERVAL || self.frames == 0 {
            return None;
        }
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let fps = f64::from(self.frames) / since.elapsed().as_secs_f64();
        let network = match self.network {
            Some((time, slices)) => format!("{:.0} ms in {slices} slices", ms(time)),
            None => "preparing".into(),
        };
        let present = ms(self.presenting / self.frames);
        let line = format!(
            "{fps:.0} fps  capture {:.0} ms  network {network}  present {present:.1} ms",
            ms(self.capture)
        );
        (self.since, self.frames, self.presenting) = (Some(Instant::now()), 0, Duration::ZERO);
        Some(line)
    }

    /// Prints a summary at the end.
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
            "window: {frames} frames in {seconds:.1} s, {:.1} fps; {:.1} ms of work each; frame times: median {:.0} ms, 95th percentile {:.0} ms",
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
