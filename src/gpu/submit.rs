//! Submission of commands, waiting, and readback.

use super::Gpu;
use crate::error::{Error, ErrorKind, Result, error};
use futures_channel::oneshot;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Timeout after which a device counts as hung.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A pending submission, with buffers that are mapped when it completes.
pub(crate) struct Mapping {
    submission: wgpu::SubmissionIndex,
    buffers: Vec<oneshot::Receiver<Result<(), wgpu::BufferAsyncError>>>,
}

pub(crate) fn readback_error() -> Error {
    Error::new(ErrorKind::Device, "could not read back from the device")
}

/// Runs a future that waits only for the device to completion.
///
/// # Errors
/// Returns the error of the future. In browsers, where blocking is impossible, also returns an
/// error if the future is not ready.
pub(crate) fn block_on_device<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    if cfg!(not(target_arch = "wasm32")) {
        // The future is usually ready when first polled. But if several threads wait for a device,
        // one of them may receive the notification for another, and forward it a moment later.
        return pollster::block_on(future);
    }
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(error!(Usage, "cannot block on a device in a browser")
            .advice("use the asynchronous functions")),
    }
}

impl Gpu {
    /// Reads back bytes of a buffer, and waits for them.
    ///
    /// # Errors
    /// Returns an error if the device fails, and always in browsers, which cannot block.
    pub(crate) fn read(&self, buffer: &wgpu::Buffer, offset: u64, bytes: u64) -> Result<Vec<u8>> {
        let staging = self.buffer(
            "readback",
            bytes,
            wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        )?;
        let mut encoder = self
            .device
            .create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("readback") });
        encoder.copy_buffer_to_buffer(buffer, offset, &staging, 0, bytes);
        let mapping = self.submit_and_map(encoder, [(&staging, bytes)]);
        block_on_device(self.mapped(mapping))?;
        let view = staging
            .get_mapped_range(0..bytes)
            .map_err(|e| self.root_cause(readback_error().source(e)))?;
        Ok(view.to_vec())
    }

    /// Submits commands, and maps the first bytes of buffers when they complete.
    pub(crate) fn submit_and_map<'a>(
        &self,
        encoder: wgpu::CommandEncoder,
        buffers: impl IntoIterator<Item = (&'a wgpu::Buffer, u64)>,
    ) -> Mapping {
        let map = |(buffer, bytes): (&wgpu::Buffer, u64)| {
            let (sender, receiver) = oneshot::channel();
            // A closed receiver means that an error has already been returned.
            encoder.map_buffer_on_submit(buffer, wgpu::MapMode::Read, 0..bytes, move |result| {
                drop(sender.send(result))
            });
            receiver
        };
        let buffers = buffers.into_iter().map(map).collect();
        let commands = encoder.finish();
        let _guard = self.pause_submissions();
        Mapping { submission: self.queue.submit([commands]), buffers }
    }

    /// Waits until the buffers are mapped. Natively the first poll blocks until the device is done.
    pub(crate) async fn mapped(&self, mapping: Mapping) -> Result<()> {
        if cfg!(not(target_arch = "wasm32")) {
            self.wait(mapping.submission)?;
        }
        for buffer in mapping.buffers {
            let result = buffer.await.map_err(|e| self.root_cause(readback_error().source(e)))?;
            self.check()?;
            result.map_err(|e| self.root_cause(readback_error().source(e)))?;
        }
        Ok(())
    }

    /// Waits until the submission is done.
    pub(crate) fn wait(&self, submission: wgpu::SubmissionIndex) -> Result<()> {
        let poll =
            wgpu::PollType::Wait { submission_index: Some(submission), timeout: Some(TIMEOUT) };
        let polled = self.device.poll(poll);
        self.check()?;
        match polled {
            Ok(_) => Ok(()),
            Err(wgpu::PollError::Timeout) => {
                Err(error!(Timeout, "device {} did not respond for {} s", self.summary().name, TIMEOUT.as_secs())
                    .advice("the driver may hang; use a smaller `--size`, another `--device`, or `--device cpu`"))
            }
            Err(e) => Err(self.root_cause(Error::new(ErrorKind::Device, "waiting for the device failed").source(e))),
        }
    }
}
