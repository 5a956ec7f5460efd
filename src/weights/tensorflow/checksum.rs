//! The checksums of TensorFlow's checkpoints: CRC-32C, stored masked.

use crate::error::{Result, error};
use crc::{CRC_32_ISCSI, Crc, Digest, Table};

static CRC: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

/// Recovers a checksum that was masked, so that a checksum of bytes that contain checksums is safe.
pub(super) fn unmask(masked: u32) -> u32 {
    masked.wrapping_sub(0xa282_ead8).rotate_left(15)
}

/// The checksum of a tensor while it is read.
pub(in super::super) struct Checksum(Digest<'static, u32, Table<16>>);

impl Checksum {
    pub fn new() -> Self {
        Self(CRC.digest())
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Compares the checksum with that of the file.
    ///
    /// # Errors
    /// Returns an error if it differs.
    pub fn check(self, expected: u32) -> Result<()> {
        if self.0.finalize() == expected {
            return Ok(());
        }
        Err(error!(Weights, "the checksum does not match: the file is damaged")
            .advice("download the checkpoint again"))
    }
}
