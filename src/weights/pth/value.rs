//! What a pickle says, as plain data: an arena of nodes that point to each other by number, so that
//! cycles and deep nesting cost nothing to build and nothing to drop.

/// The number of a node in [`Values`].
pub(super) type Id = u32;

/// One Python object.
#[derive(Debug)]
pub(super) enum Node<'a> {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(&'a str),
    Tuple(Box<[Id]>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A class or function by name. It is never looked up.
    Global(Box<(&'a str, &'a str)>),
    /// The call of one, which is not made.
    Call(Box<Call>),
    /// A reference to something outside the pickle: for PyTorch, a storage.
    Persistent(Id),
    /// Bytes, sets, integers past 64 bits: nothing that weights need.
    Opaque,
}

/// `callable(*args)`, and what was put into the result with `result[key] = value`.
#[derive(Debug)]
pub(super) struct Call {
    pub callable: Id,
    pub args: Id,
    pub items: Vec<(Id, Id)>,
}

/// A pickle's objects.
#[derive(Debug)]
pub(super) struct Values<'a> {
    pub nodes: Vec<Node<'a>>,
    pub root: Id,
}

impl<'a> Values<'a> {
    /// A node. Numbers come from the pickle machine, which hands out no others.
    pub fn get(&self, id: Id) -> &Node<'a> {
        &self.nodes[id as usize]
    }

    /// The text of a string.
    pub fn str(&self, id: Id) -> Option<&'a str> {
        match self.get(id) {
            Node::Str(s) => Some(s),
            _ => None,
        }
    }

    /// A whole number of zero or more.
    pub fn size(&self, id: Id) -> Option<u64> {
        match self.get(id) {
            Node::Int(i) => u64::try_from(*i).ok(),
            _ => None,
        }
    }

    /// The elements of a tuple or list; `torch.Size` counts as one.
    pub fn sequence(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Node::Tuple(ids) => Some(ids),
            Node::List(ids) => Some(ids),
            Node::Call(call) if self.global(call.callable) == Some(("torch", "Size")) => {
                match self.get(call.args) {
                    Node::Tuple(args) => match args.first().map(|&id| self.get(id)) {
                        Some(Node::Tuple(ids)) => Some(ids),
                        Some(Node::List(ids)) => Some(ids),
                        _ => None,
                    },
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// The entries of a dict, or of an object that was filled like one, in order. A key may stand
    /// twice: the last one counts.
    pub fn entries(&self, id: Id) -> Option<&[(Id, Id)]> {
        match self.get(id) {
            Node::Dict(items) => Some(items),
            Node::Call(call) if !call.items.is_empty() => Some(&call.items),
            _ => None,
        }
    }

    /// Module and name of a class or function.
    pub fn global(&self, id: Id) -> Option<(&'a str, &'a str)> {
        match self.get(id) {
            Node::Global(names) => Some(**names),
            _ => None,
        }
    }

    /// What an object is, for error texts. Names from the file are cut to a sane length.
    pub fn describe(&self, id: Id) -> String {
        match self.get(id) {
            Node::None => "None".into(),
            Node::Bool(_) => "a bool".into(),
            Node::Int(_) => "an int".into(),
            Node::Float(_) => "a float".into(),
            Node::Str(_) => "a string".into(),
            Node::Tuple(_) => "a tuple".into(),
            Node::List(_) => "a list".into(),
            Node::Dict(_) => "a dict".into(),
            Node::Global(names) => format!("the name {}", dotted(**names)),
            Node::Call(call) => match self.global(call.callable) {
                Some(names) => format!("a Python object of {}", dotted(names)),
                None => "a Python object".into(),
            },
            Node::Persistent(_) => "a storage".into(),
            Node::Opaque => "a Python object".into(),
        }
    }
}

/// `module.name`, at most 80 characters of it.
fn dotted((module, name): (&str, &str)) -> String {
    format!(
        "`{}`",
        [module, ".", name].iter().flat_map(|part| part.chars()).take(80).collect::<String>()
    )
}
