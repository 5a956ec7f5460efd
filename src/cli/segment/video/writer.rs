//! A sink on its own thread, so that a stalled reader or a hanging encoder does not delay the exit.

use crate::cli::interrupt::POLL;
use crate::cli::segment::work::WAITING;
use crate::error::{Result, error};
use crate::thread;
use crate::video::{Content, FrameSink};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Time limit of the sink for a frame, or for finishing its file, after a signal.
pub(super) const GRACE: Duration = Duration::from_secs(20);

enum Step {
    Write(Content, Option<Duration>),
    Finish,
}

/// Queues a few frames for a sink.
pub(super) struct Writer {
    /// Name of the output, for errors.
    name: String,
    /// `None` once the queue is closed.
    steps: Option<SyncSender<Step>>,
    /// Results of the steps.
    done: Receiver<Result<()>>,
    /// Number of steps without a result yet.
    waiting: usize,
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    grace: Duration,
}

impl Writer {
    /// Starts the thread. `grace` is the time limit after `stop` is set.
    pub(super) fn new(
        name: String,
        mut sink: Box<dyn FrameSink>,
        stop: &Arc<AtomicBool>,
        grace: Duration,
    ) -> Result<Self> {
        // One more than the maximum in the queue, so that sending never blocks.
        let (steps, todo) = sync_channel::<Step>(WAITING + 1);
        let (report, done) = sync_channel(WAITING + 1);
        let thread = thread::spawn("to write frames", move || {
            for step in todo {
                let result = match step {
                    Step::Write(content, duration) => sink.write(&content, duration),
                    Step::Finish => return drop(report.send(sink.finish())),
                };
                let failed = result.is_err();
                if report.send(result).is_err() || failed {
                    return;
                }
            }
        })?;
        Ok(Self {
            name,
            steps: Some(steps),
            done,
            waiting: 0,
            thread: Some(thread),
            stop: stop.clone(),
            grace,
        })
    }

    /// Queues a frame. Returns the error of an earlier one, if any.
    ///
    /// # Errors
    /// Errors of the sink, and a sink that blocks after a signal.
    pub(super) fn write(&mut self, content: Content, duration: Option<Duration>) -> Result<()> {
        while self.waiting > WAITING {
            self.one()?;
        }
        self.begin(Step::Write(content, duration))
    }

    /// Waits until all frames are written, and commits the file.
    ///
    /// # Errors
    /// Those of the sink; it takes nothing more after a signal.
    pub(super) fn finish(mut self) -> Result<()> {
        while self.waiting > 0 {
            self.one()?;
        }
        self.begin(Step::Finish)?;
        self.one()
    }

    fn begin(&mut self, step: Step) -> Result<()> {
        if self.steps.as_ref().is_some_and(|steps| steps.send(step).is_ok()) {
            self.waiting += 1;
            return Ok(());
        }
        // The thread has ended; its result has the reason.
        self.one()
    }

    /// Waits for the result of one step.
    fn one(&mut self) -> Result<()> {
        let mut given_up = None;
        loop {
            match self.done.recv_timeout(POLL) {
                Ok(result) => {
                    self.waiting = self.waiting.saturating_sub(1);
                    return result;
                }
                Err(RecvTimeoutError::Timeout) if self.stop.load(Ordering::Relaxed) => {
                    let deadline = *given_up.get_or_insert_with(|| Instant::now() + self.grace);
                    if Instant::now() > deadline {
                        return Err(error!(
                            Timeout,
                            "nothing more was taken within {} s after the signal",
                            self.grace.as_secs()
                        )
                        .at(&self.name)
                        .advice("the video is not finished"));
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
                        std::panic::resume_unwind(panic);
                    }
                    return Err(error!(Io, "ended before its frames did").at(&self.name));
                }
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // An unfinished sink removes its file. Give it a moment to do so.
        self.steps = None;
        let begun = Instant::now();
        while self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
            && begun.elapsed() < Duration::from_secs(1)
        {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Size;
    use crate::image::Image;
    use std::sync::Mutex;

    /// Records the calls; fails or hangs at a frame.
    #[derive(Clone, Default)]
    struct Noting {
        seen: Arc<Mutex<Vec<&'static str>>>,
        fails: Option<usize>,
        hangs: Option<usize>,
    }

    impl FrameSink for Noting {
        fn write(&mut self, _: &Content, _: Option<Duration>) -> Result<()> {
            let number = self.seen.lock().unwrap().len();
            if self.hangs == Some(number) {
                std::thread::sleep(Duration::from_secs(1000));
            }
            self.seen.lock().unwrap().push("frame");
            if self.fails == Some(number) { Err(error!(Io, "disk full")) } else { Ok(()) }
        }

        fn finish(self: Box<Self>) -> Result<()> {
            self.seen.lock().unwrap().push("end");
            Ok(())
        }
    }

    fn run(sink: &Noting, stop: bool) -> Result<()> {
        let mut writer = Writer::new(
            "out".to_owned(),
            Box::new(sink.clone()),
            &Arc::new(AtomicBool::new(stop)),
            Duration::from_millis(200),
        )?;
        for _ in 0..10 {
            writer.write(Content::Image(Image::new(Size::square(1), vec![0; 3]).unwrap()), None)?;
        }
        writer.finish()
    }

    #[test]
    fn frames_arrive_before_the_end_and_errors_are_returned() {
        let sink = Noting::default();
        run(&sink, false).unwrap();
        run(&sink, true).unwrap();
        let video = [&["frame"; 10][..], &["end"]].concat();
        assert_eq!(*sink.seen.lock().unwrap(), [&video[..], &video].concat());
        for number in [0, 4, 9] {
            let sink = Noting { fails: Some(number), ..Noting::default() };
            assert!(run(&sink, false).unwrap_err().to_string().contains("disk full"));
            assert_eq!(sink.seen.lock().unwrap().len(), number + 1, "nothing comes after an error");
        }
    }

    #[test]
    fn a_sink_that_hangs_is_given_up_after_a_signal() {
        let begun = Instant::now();
        let error =
            run(&Noting { hangs: Some(3), ..Noting::default() }, true).unwrap_err().to_string();
        assert!(error.contains("nothing more was taken"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }
}
