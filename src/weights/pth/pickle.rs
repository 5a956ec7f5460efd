//! A stack machine for Python's pickle, protocols 2 to 5, that executes no code.
//!
//! Classes and functions are represented by their names, calls by their descriptions. Unknown
//! opcodes, stack underflow and overlong programs are errors. Opcodes: CPython,
//! `Lib/pickletools.py`.

use super::value::{Call, Id, Node, Values};

/// Maximum number of opcodes of a pickle. The largest supported networks need 60,000, or twice that
/// with optimizer state.
const MAX_OPS: usize = 1 << 20;
/// Maximum length of the name of a module, class or function, in bytes.
const MAX_LINE: usize = 1024;

const NONE: Id = 0;
const TRUE: Id = 1;
const FALSE: Id = 2;
const EMPTY: Id = 3;

/// Reason why a pickle cannot be read.
#[derive(Debug)]
pub(super) enum Fault {
    /// The bytes end before the pickle does.
    End,
    /// The opcode at byte `at` is invalid.
    Invalid { at: usize, message: String },
}

type Result<T> = std::result::Result<T, Fault>;

/// Reads the pickle at the start of `bytes`. Returns its values and its length in bytes.
pub(super) fn read(bytes: &[u8]) -> Result<(Values<'_>, usize)> {
    let nodes = vec![Node::None, Node::Bool(true), Node::Bool(false), Node::Tuple(Box::new([]))];
    let mut machine = Machine {
        bytes,
        at: 0,
        op: 0,
        nodes,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: Vec::new(),
        copied: 0,
    };
    for ops in 0..MAX_OPS {
        machine.op = machine.at;
        let code = machine.byte()?;
        if code == b'.' {
            let root = machine.pop()?;
            return Ok((Values { nodes: machine.nodes, root }, machine.at));
        }
        machine.step(code, ops)?;
    }
    Err(machine.invalid(format!("the pickle has more than {MAX_OPS} opcodes")))
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Position of the current opcode, in bytes.
    op: usize,
    nodes: Vec<Node<'a>>,
    stack: Vec<Id>,
    /// Stack heights of the marks.
    marks: Vec<usize>,
    memo: Vec<Option<Id>>,
    /// Number of pairs copied to dicts.
    copied: usize,
}

impl<'a> Machine<'a> {
    fn step(&mut self, code: u8, ops: usize) -> Result<()> {
        match code {
            // PROTO, FRAME
            0x80 => match self.byte()? {
                0..=5 => Ok(()),
                version => Err(self.invalid(format!("unsupported pickle protocol {version}"))),
            },
            0x95 => self.take(8).map(drop),
            // Constants
            b'N' => self.push(NONE),
            0x88 => self.push(TRUE),
            0x89 => self.push(FALSE),
            b')' => self.push(EMPTY),
            // BININT, BININT1, BININT2, LONG1, LONG4, BINFLOAT
            b'J' => self.array().and_then(|b| self.make(Node::Int(i32::from_le_bytes(b).into()))),
            b'K' => self.byte().and_then(|b| self.make(Node::Int(b.into()))),
            b'M' => self.array().and_then(|b| self.make(Node::Int(u16::from_le_bytes(b).into()))),
            0x8a => self.byte().and_then(|n| self.long(n.into())),
            0x8b => self.array().and_then(|b| self.long(u32::from_le_bytes(b) as usize)),
            b'G' => self.array().and_then(|b| self.make(Node::Float(f64::from_be_bytes(b)))),
            // SHORT_BINUNICODE, BINUNICODE, BINUNICODE8 and Python 2's SHORT_BINSTRING, BINSTRING
            0x8c | b'U' => self.byte().and_then(|n| self.string(n.into())),
            b'X' | b'T' => self.array().and_then(|b| self.string(u32::from_le_bytes(b).into())),
            0x8d => self.array().and_then(|b| self.string(u64::from_le_bytes(b))),
            // SHORT_BINBYTES, BINBYTES, BINBYTES8, BYTEARRAY8
            b'C' => self.byte().and_then(|n| self.skip(n.into())),
            b'B' => self.array().and_then(|b| self.skip(u32::from_le_bytes(b).into())),
            0x8e | 0x96 => self.array().and_then(|b| self.skip(u64::from_le_bytes(b))),
            // MARK, POP, POP_MARK, DUP
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' if self.marks.last() == Some(&self.stack.len()) => self.pop_mark().map(drop),
            b'0' => self.pop().map(drop),
            b'1' => self.pop_mark().map(drop),
            b'2' => self.top().and_then(|id| self.push(id)),
            // TUPLE, TUPLE1, TUPLE2, TUPLE3, EMPTY_LIST, LIST, EMPTY_DICT, DICT
            b't' => self.pop_mark().and_then(|ids| self.make(Node::Tuple(ids.into()))),
            0x85 => self.tuple::<1>(),
            0x86 => self.tuple::<2>(),
            0x87 => self.tuple::<3>(),
            b']' => self.make(Node::List(Vec::new())),
            b'l' => self.pop_mark().and_then(|ids| self.make(Node::List(ids))),
            b'}' => self.make(Node::Dict(Vec::new())),
            b'd' => self
                .pop_mark()
                .and_then(|ids| self.pairs(&ids))
                .and_then(|items| self.make(Node::Dict(items))),
            // EMPTY_SET, FROZENSET, ADDITEMS: sets are read as lists
            0x8f => self.make(Node::List(Vec::new())),
            0x91 => self.pop_mark().and_then(|ids| self.make(Node::List(ids))),
            0x90 => self.pop_mark().and_then(|ids| self.append(&ids)),
            // APPEND, APPENDS, SETITEM, SETITEMS
            b'a' => self.pop().and_then(|id| self.append(&[id])),
            b'e' => self.pop_mark().and_then(|ids| self.append(&ids)),
            b's' => self.pop_array::<2>().and_then(|[key, value]| self.set(&[(key, value)])),
            b'u' => {
                self.pop_mark().and_then(|ids| self.pairs(&ids)).and_then(|items| self.set(&items))
            }
            // GLOBAL, STACK_GLOBAL, REDUCE, NEWOBJ, NEWOBJ_EX, BUILD, BINPERSID
            b'c' => {
                let names = (self.line()?, self.line()?);
                self.make(Node::Global(Box::new(names)))
            }
            0x93 => self.stack_global(),
            b'R' | 0x81 => {
                self.pop_array::<2>().and_then(|[callable, args]| self.call(callable, args))
            }
            0x92 => self.pop_array::<3>().and_then(|[callable, args, _]| self.call(callable, args)),
            b'b' => self.pop().and_then(|state| self.build(state)),
            b'Q' => self.pop().and_then(|id| self.make(Node::Persistent(id))),
            // BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET
            b'q' => self.byte().and_then(|i| self.remember(i.into(), ops)),
            b'r' => self.array().and_then(|b| self.remember(u32::from_le_bytes(b) as usize, ops)),
            0x94 => self.remember(self.memo.len(), ops),
            b'h' => self.byte().and_then(|i| self.recall(i.into())),
            b'j' => self.array().and_then(|b| self.recall(u32::from_le_bytes(b) as usize)),
            _ => Err(self.invalid(format!("unsupported opcode 0x{code:02x}"))),
        }
    }

    fn invalid(&self, message: impl Into<String>) -> Fault {
        Fault::Invalid { at: self.op, message: message.into() }
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8]> {
        let remaining = &self.bytes[self.at..];
        let bytes =
            usize::try_from(len).ok().and_then(|len| remaining.get(..len)).ok_or(Fault::End)?;
        self.at += bytes.len();
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8> {
        self.take(1).map(|b| b[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N as u64)
            .map(|b| b.try_into().expect("invariant: `take` returns the requested length"))
    }

    /// Reads up to the end of the line, and returns the text without the line break.
    fn line(&mut self) -> Result<&'a str> {
        let remaining = &self.bytes[self.at..];
        let Some(len) = remaining.iter().take(MAX_LINE).position(|&b| b == b'\n') else {
            return Err(if remaining.len() < MAX_LINE {
                Fault::End
            } else {
                self.invalid("unterminated name")
            });
        };
        self.at += len + 1;
        std::str::from_utf8(&remaining[..len]).map_err(|_| self.invalid("name is not UTF-8"))
    }

    fn push(&mut self, id: Id) -> Result<()> {
        self.stack.push(id);
        Ok(())
    }

    fn make(&mut self, node: Node<'a>) -> Result<()> {
        // At most one node per opcode, so that ids stay far below 2^32.
        self.nodes.push(node);
        self.push(self.nodes.len() as Id - 1)
    }

    /// Returns the stack height of the last mark, below which opcodes must not pop.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Id> {
        self.pop_array().map(|[id]| id)
    }

    fn pop_array<const N: usize>(&mut self) -> Result<[Id; N]> {
        let start = self.stack.len().checked_sub(N).filter(|&start| start >= self.floor());
        let Some(start) = start else { return Err(self.invalid("stack underflow")) };
        let ids = self.stack[start..].try_into().expect("invariant: the slice has N elements");
        self.stack.truncate(start);
        Ok(ids)
    }

    fn top(&self) -> Result<Id> {
        match self.stack.last() {
            Some(&id) if self.stack.len() > self.floor() => Ok(id),
            _ => Err(self.invalid("stack underflow")),
        }
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>> {
        let Some(height) = self.marks.pop() else {
            return Err(self.invalid("no mark on the stack"));
        };
        Ok(self.stack.split_off(height))
    }

    fn tuple<const N: usize>(&mut self) -> Result<()> {
        self.pop_array::<N>().and_then(|ids| self.make(Node::Tuple(Box::new(ids))))
    }

    fn pairs(&self, ids: &[Id]) -> Result<Vec<(Id, Id)>> {
        match ids.as_chunks() {
            (pairs, []) => Ok(pairs.iter().map(|&[key, value]| (key, value)).collect()),
            _ => Err(self.invalid("key without a value")),
        }
    }

    fn long(&mut self, len: usize) -> Result<()> {
        let bytes = self.take(len as u64)?;
        // Little-endian two's complement of any length.
        let node = if len > 8 {
            Node::Opaque
        } else {
            let sign = if bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 };
            let mut all = [sign; 8];
            all[..len].copy_from_slice(bytes);
            Node::Int(i64::from_le_bytes(all))
        };
        self.make(node)
    }

    fn string(&mut self, len: u64) -> Result<()> {
        let bytes = self.take(len)?;
        // The string may not be UTF-8: Python 2 wrote bytes, and unpaired surrogates are possible.
        // Neither occurs in a tensor name.
        self.make(std::str::from_utf8(bytes).map_or(Node::Opaque, Node::Str))
    }

    fn skip(&mut self, len: u64) -> Result<()> {
        self.take(len)?;
        self.make(Node::Opaque)
    }

    fn append(&mut self, ids: &[Id]) -> Result<()> {
        let list = self.top()?;
        match &mut self.nodes[list as usize] {
            Node::List(list) => list.extend(ids),
            Node::Call(_) | Node::Opaque => {}
            _ => return Err(self.invalid("append to an object that is not a list")),
        }
        Ok(())
    }

    fn set(&mut self, items: &[(Id, Id)]) -> Result<()> {
        let dict = self.top()?;
        match &mut self.nodes[dict as usize] {
            Node::Dict(dict) => dict.extend(items),
            Node::Call(call) => call.items.extend(items),
            Node::Opaque => {}
            _ => return Err(self.invalid("keys set on an object that is not a dict")),
        }
        Ok(())
    }

    /// Sets the state of the object below. That of a dict (`_metadata` of a state dict) is not
    /// needed.
    fn build(&mut self, state: Id) -> Result<()> {
        let object = self.top()?;
        if let Node::Call(call) = &mut self.nodes[object as usize] {
            call.state = Some(state);
        }
        Ok(())
    }

    fn stack_global(&mut self) -> Result<()> {
        let [module, name] = self.pop_array()?;
        match (&self.nodes[module as usize], &self.nodes[name as usize]) {
            (&Node::Str(module), &Node::Str(name)) => {
                self.make(Node::Global(Box::new((module, name))))
            }
            _ => Err(self.invalid("class name is not a string")),
        }
    }

    /// Handles a call: creates a dict for `OrderedDict`, whose entries follow, and a description
    /// for every other callable.
    fn call(&mut self, callable: Id, args: Id) -> Result<()> {
        let is_dict = matches!(&self.nodes[callable as usize],
            Node::Global(names) if **names == ("collections", "OrderedDict"));
        let node = if is_dict {
            let items = self.initial_items(args)?;
            self.copied += items.len();
            if self.copied > MAX_OPS {
                return Err(self.invalid("too many dict entries"));
            }
            Node::Dict(items)
        } else {
            Node::Call(Box::new(Call { callable, args, items: Vec::new(), state: None }))
        };
        self.make(node)
    }

    /// Returns the pairs in `OrderedDict([[key, value], ...])`, which Python 2 wrote. Empty for
    /// `OrderedDict()`.
    fn initial_items(&self, args: Id) -> Result<Vec<(Id, Id)>> {
        let get = |id: Id| match &self.nodes[id as usize] {
            Node::Tuple(ids) => Some(&ids[..]),
            Node::List(ids) => Some(&ids[..]),
            _ => None,
        };
        let items = || match get(args)? {
            [] => Some(Vec::new()),
            [list] => get(*list)?
                .iter()
                .map(|&pair| match get(pair)? {
                    &[key, value] => Some((key, value)),
                    _ => None,
                })
                .collect(),
            _ => None,
        };
        items().ok_or_else(|| self.invalid("OrderedDict argument is not a list of pairs"))
    }

    fn remember(&mut self, index: usize, ops: usize) -> Result<()> {
        // Picklers number their objects consecutively: a larger index than the number of opcodes
        // only serves to exhaust memory.
        if index > ops {
            return Err(self.invalid(format!("memo entry {index} after {ops} opcodes")));
        }
        let id = self.top()?;
        if self.memo.len() <= index {
            self.memo.resize(index + 1, None);
        }
        self.memo[index] = Some(id);
        Ok(())
    }

    fn recall(&mut self, index: usize) -> Result<()> {
        match self.memo.get(index) {
            Some(&Some(id)) => self.push(id),
            _ => Err(self.invalid(format!("memo entry {index} was never set"))),
        }
    }
}
