//! Bits of a JPEG scan, and the Huffman codes in them (ITU-T T.81, annexes C and F).

/// Why a file is left to the other decoder: it is damaged, or of a kind that is rare.
#[derive(Debug)]
pub(super) struct Unfit;

/// Bits that one look into the table decodes; longer codes are searched for.
const LOOK: u32 = 9;

/// A Huffman table.
#[derive(Debug, Clone)]
pub(super) struct Table {
    /// By the next [`LOOK`] bits: the symbol and the code's length, 0 where it is longer.
    quick: Vec<(u8, u8)>,
    /// By length: the largest code, aligned to 16 bits and exclusive, and what to add to a code for
    /// the place of its symbol.
    limits: [u32; 17],
    offsets: [i32; 17],
    symbols: Vec<u8>,
}

impl Table {
    /// From the number of codes of each length 1 to 16, and the symbols by code.
    pub fn new(counts: &[u8; 16], symbols: &[u8]) -> Result<Self, Unfit> {
        let total: usize = counts.iter().map(|&n| usize::from(n)).sum();
        if total > symbols.len() || total > 256 {
            return Err(Unfit);
        }
        let mut table = Self {
            quick: vec![(0, 0); 1 << LOOK],
            limits: [0; 17],
            offsets: [0; 17],
            symbols: symbols[..total].to_vec(),
        };
        let (mut code, mut place) = (0u32, 0usize);
        for length in 1..=16u32 {
            let count = u32::from(counts[length as usize - 1]);
            if code + count > 1 << length {
                return Err(Unfit);
            }
            table.offsets[length as usize] = place as i32 - code as i32;
            for _ in 0..count {
                if length <= LOOK {
                    let first = (code << (LOOK - length)) as usize;
                    table.quick[first..first + (1 << (LOOK - length))]
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

/// Reads the bits of an entropy-coded segment up to the next marker; behind it zeros, as libjpeg
/// does.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    held: u64,
    count: u32,
    /// Zero bits that stand for missing data.
    invented: u32,
}

impl<'a> Bits<'a> {
    pub fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at, held: 0, count: 0, invented: 0 }
    }

    fn fill(&mut self) {
        while self.count <= 48 {
            let byte = match (self.bytes.get(self.at), self.bytes.get(self.at + 1)) {
                (Some(0xff), Some(0)) => {
                    self.at += 2;
                    0xff
                }
                (Some(0xff), _) | (None, _) => {
                    self.invented = self.invented.saturating_add(8);
                    0
                }
                (Some(&byte), _) => {
                    self.at += 1;
                    byte
                }
            };
            self.held = self.held << 8 | u64::from(byte);
            self.count += 8;
        }
    }

    fn peek(&self, bits: u32) -> u32 {
        (self.held >> (self.count - bits)) as u32 & ((1 << bits) - 1)
    }

    /// The next bits, at most 16, as a number.
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

    /// A number of `bits` bits in JPEG's way: the lower half of them are negative (T.81, F.2.2.1).
    pub fn signed(&mut self, bits: u32) -> i32 {
        let value = self.take(bits) as i32;
        if bits > 0 && value < 1 << (bits - 1) { value - (1 << bits) + 1 } else { value }
    }

    pub fn symbol(&mut self, table: &Table) -> Result<u8, Unfit> {
        if self.count < 16 {
            self.fill();
        }
        let (symbol, length) = table.quick[self.peek(LOOK) as usize];
        if length > 0 {
            self.count -= u32::from(length);
            return Ok(symbol);
        }
        let next = self.peek(16);
        let length = (LOOK + 1..=16).find(|&l| next < table.limits[l as usize]).ok_or(Unfit)?;
        self.count -= length;
        let place = (next >> (16 - length)) as i32 + table.offsets[length as usize];
        table.symbols.get(place as usize).copied().ok_or(Unfit)
    }

    /// Whether more than some padding was read behind the segment's end.
    fn overrun(&self) -> bool {
        self.invented > self.count
    }

    /// Passes over the restart marker of this number (0 to 7).
    pub fn restart(&mut self, number: u8) -> Result<(), Unfit> {
        if self.overrun() || self.bytes.get(self.at..self.at + 2) != Some(&[0xff, 0xd0 + number]) {
            return Err(Unfit);
        }
        (self.at, self.held, self.count, self.invented) = (self.at + 2, 0, 0, 0);
        Ok(())
    }

    /// Where the marker behind the segment is.
    pub fn end(self) -> Result<usize, Unfit> {
        if self.overrun() { Err(Unfit) } else { Ok(self.at) }
    }
}
