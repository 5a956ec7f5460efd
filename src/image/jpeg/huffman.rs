//! Bit reader and Huffman decoding for JPEG scans (ITU-T T.81, annexes C and F).

/// The file is damaged or uses a rare feature, and is left to the `image` crate's decoder.
#[derive(Debug)]
pub(super) struct Unsupported;

/// Length of the codes that one table lookup decodes; longer codes are searched for.
const LOOKUP_BITS: u32 = 9;

/// A Huffman table.
#[derive(Debug, Clone)]
pub(super) struct Table {
    /// Symbol and code length by the next [`LOOKUP_BITS`] bits; length 0 if the code is longer.
    quick: Vec<(u8, u8)>,
    /// By code length: the exclusive upper bound of the codes, aligned to 16 bits, and the offset
    /// from a code to the index of its symbol.
    limits: [u32; 17],
    offsets: [i32; 17],
    symbols: Vec<u8>,
}

impl Table {
    /// Builds a table from the number of codes of each length 1 to 16 and the symbols in code
    /// order.
    pub fn new(counts: &[u8; 16], symbols: &[u8]) -> Result<Self, Unsupported> {
        let total: usize = counts.iter().map(|&n| usize::from(n)).sum();
        if total > symbols.len() || total > 256 {
            return Err(Unsupported);
        }
        let mut table = Self {
            quick: vec![(0, 0); 1 << LOOKUP_BITS],
            limits: [0; 17],
            offsets: [0; 17],
            symbols: symbols[..total].to_vec(),
        };
        let (mut code, mut place) = (0u32, 0usize);
        for length in 1..=16u32 {
            let count = u32::from(counts[length as usize - 1]);
            if code + count > 1 << length {
                return Err(Unsupported);
            }
            table.offsets[length as usize] = place as i32 - code as i32;
            for _ in 0..count {
                if length <= LOOKUP_BITS {
                    let first = (code << (LOOKUP_BITS - length)) as usize;
                    table.quick[first..first + (1 << (LOOKUP_BITS - length))]
                        .fill((symbols[place], length as u8));
                }
                code += 1;
                place += 1;
            }
            table.limits[length as usize] = code << (16 - length);
            code <<= 1;
        }
        Ok(table)
    }
}

/// Reads the bits of an entropy-coded segment up to the next marker, and zeros past it, as libjpeg
/// does.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    buffer: u64,
    count: u32,
    /// Number of zero bits substituted for missing data.
    padding: u32,
}

impl<'a> Bits<'a> {
    pub fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at, buffer: 0, count: 0, padding: 0 }
    }

    fn fill(&mut self) {
        while self.count <= 48 {
            let byte = match (self.bytes.get(self.at), self.bytes.get(self.at + 1)) {
                (Some(0xff), Some(0)) => {
                    self.at += 2;
                    0xff
                }
                (Some(0xff), _) | (None, _) => {
                    self.padding = self.padding.saturating_add(8);
                    0
                }
                (Some(&byte), _) => {
                    self.at += 1;
                    byte
                }
            };
            self.buffer = self.buffer << 8 | u64::from(byte);
            self.count += 8;
        }
    }

    fn peek(&self, bits: u32) -> u32 {
        (self.buffer >> (self.count - bits)) as u32 & ((1 << bits) - 1)
    }

    /// Reads the next bits, at most 16, as a number.
    pub fn take(&mut self, bits: u32) -> u32 {
        if bits == 0 {
            return 0;
        }
        if self.count < bits {
            self.fill();
        }
        let value = self.peek(bits);
        self.count -= bits;
        value
    }

    /// Reads a signed number of `bits` bits in JPEG's encoding: the lower half of the codes is
    /// negative (T.81, F.2.2.1).
    pub fn signed(&mut self, bits: u32) -> i32 {
        let value = self.take(bits) as i32;
        if bits > 0 && value < 1 << (bits - 1) { value - (1 << bits) + 1 } else { value }
    }

    pub fn symbol(&mut self, table: &Table) -> Result<u8, Unsupported> {
        if self.count < 16 {
            self.fill();
        }
        let (symbol, length) = table.quick[self.peek(LOOKUP_BITS) as usize];
        if length > 0 {
            self.count -= u32::from(length);
            return Ok(symbol);
        }
        let next = self.peek(16);
        let length =
            (LOOKUP_BITS + 1..=16).find(|&l| next < table.limits[l as usize]).ok_or(Unsupported)?;
        self.count -= length;
        let place = (next >> (16 - length)) as i32 + table.offsets[length as usize];
        table.symbols.get(place as usize).copied().ok_or(Unsupported)
    }

    /// Returns whether bits past the end of the segment were consumed.
    fn overrun(&self) -> bool {
        self.padding > self.count
    }

    /// Skips the restart marker with the given number (0 to 7).
    pub fn restart(&mut self, number: u8) -> Result<(), Unsupported> {
        if self.overrun() || self.bytes.get(self.at..self.at + 2) != Some(&[0xff, 0xd0 + number]) {
            return Err(Unsupported);
        }
        (self.at, self.buffer, self.count, self.padding) = (self.at + 2, 0, 0, 0);
        Ok(())
    }

    /// Returns the position of the marker that ends the segment.
    pub fn end(self) -> Result<usize, Unsupported> {
        if self.overrun() { Err(Unsupported) } else { Ok(self.at) }
    }
}
