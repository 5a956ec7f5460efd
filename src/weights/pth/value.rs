//! The objects of a pickle as plain data: an arena of nodes that refer to each other by index, so
//! that cycles and deep nesting are cheap to build and to drop.

/// Index of a node in [`Values`].
pub(super) type Id = u32;

/// A Python object.
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
    /// Module and name of a class or function, which is never looked up.
    Global(Box<(&'a str, &'a str)>),
    /// A call of a class or function, which is never executed.
    Call(Box<Call>),
    /// A reference to an object outside the pickle: for PyTorch, a storage.
    Persistent(Id),
    /// Objects that weights do not need: bytes, integers of more than 64 bits.
    Opaque,
}

/// A call `callable(*args)`, and what is added to its result.
#[derive(Debug)]
pub(super) struct Call {
    pub callable: Id,
    pub args: Id,
    /// Items that `result[key] = value` adds.
    pub items: Vec<(Id, Id)>,
    /// State that `result.__setstate__` gets: for most objects the dict of their attributes.
    pub state: Option<Id>,
}

/// The objects of a pickle.
#[derive(Debug)]
pub(super) struct Values<'a> {
    pub nodes: Vec<Node<'a>>,
    pub root: Id,
}

impl<'a> Values<'a> {
    /// Returns a node. All ids come from the pickle machine, so they are valid.
    pub fn get(&self, id: Id) -> &Node<'a> {
        &self.nodes[id as usize]
    }

    /// Returns the text of a string.
    pub fn str(&self, id: Id) -> Option<&'a str> {
        match self.get(id) {
            Node::Str(s) => Some(s),
            _ => None,
        }
    }

    /// Returns a non-negative integer.
    pub fn size(&self, id: Id) -> Option<u64> {
        match self.get(id) {
            Node::Int(i) => u64::try_from(*i).ok(),
            _ => None,
        }
    }

    /// Returns the elements of a tuple, a list, a set, or a `torch.Size`.
    pub fn sequence(&self, id: Id) -> Option<&[Id]> {
        const TYPES: [(&str, &str); 3] =
            [("torch", "Size"), ("builtins", "set"), ("__builtin__", "set")];
        match self.get(id) {
            Node::Tuple(ids) => Some(ids),
            Node::List(ids) => Some(ids),
            Node::Call(call) if self.global(call.callable).is_some_and(|g| TYPES.contains(&g)) => {
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

    /// Returns the entries, in order, of a dict or of an object that was filled like a dict. Keys
    /// can repeat: the last one is valid.
    pub fn entries(&self, id: Id) -> Option<&[(Id, Id)]> {
        match self.get(id) {
            Node::Dict(items) => Some(items),
            Node::Call(call) if !call.items.is_empty() => Some(&call.items),
            _ => None,
        }
    }

    /// Returns the attributes of an object, whose class is not known.
    pub fn attributes(&self, id: Id) -> Option<&[(Id, Id)]> {
        match self.get(id) {
            Node::Call(call) => self.entries(call.state?),
            _ => None,
        }
    }

    /// Returns the module and the name of a class or function.
    pub fn global(&self, id: Id) -> Option<(&'a str, &'a str)> {
        match self.get(id) {
            Node::Global(names) => Some(**names),
            _ => None,
        }
    }

    /// Describes an object for messages. Names from the file are truncated.
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

/// Formats `module.name`, truncated to 80 characters.
fn dotted((module, name): (&str, &str)) -> String {
    format!(
        "`{}`",
        [module, ".", name].iter().flat_map(|part| part.chars()).take(80).collect::<String>()
    )
}
