//! Submission of commands, waiting, and readback.

use super::Gpu;
use crate::error::{Error, ErrorKind, Result, error};
use crate::thread::block_on;
use futures_channel::oneshot;
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

impl Gpu {
    /// Reads back bytes of a buffer, and waits for them.
    ///
    /// # Errors
    /// Returns an error if the device fails, and always in browsers, which cannot block.
    pub(crate) fn read(&self, buffer: &wgpu::Buffer, offset: u64, bytes: u64) -> Result<Vec<u8>> {
        block_on(self.read_async(buffer, offset, bytes))
    }

    /// Reads back bytes of a buffer. Natively the first poll blocks until the device is done.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub(crate) async fn read_async(
        &self,
        buffer: &wgpu::Buffer,
        offset: u64,
        bytes: u64,
    ) -> Result<Vec<u8>> {
        let staging = self.readback("readback", bytes)?;
        let mapping = {
            let descriptor = wgpu::CommandEncoderDescriptor { label: Some("readback") };
            let mut encoder = self.device.create_command_encoder(&descriptor);
            encoder.copy_buffer_to_buffer(buffer, offset, &staging, 0, bytes);
            self.submit_and_map(encoder, [(&staging, bytes)])
        };
        self.mapped(mapping).await?;
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

    /// Waits until the submission, the last one so far, is done. Natively the first poll blocks.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub(crate) async fn finished(&self, submission: wgpu::SubmissionIndex) -> Result<()> {
        if cfg!(not(target_arch = "wasm32")) {
            return self.wait(submission);
        }
        let (sender, receiver) = oneshot::channel();
        self.queue.on_submitted_work_done(move || {
            // A closed receiver means that the caller has abandoned the run.
            let _ = sender.send(());
        });
        receiver.await.map_err(|e| self.root_cause(readback_error().source(e)))?;
        self.check()
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
