//! The pickles that `torch.save` writes of dictionaries of tensors, and nothing else.
//!
//! A pickle is a program for a stack machine that may call any function of Python. This reader knows the few opcodes and
//! names that such a file needs, builds values from them, and refuses every other one by name. Nothing is called.

use super::tensor::{Dtype, Storage, Tensor};
use std::collections::HashMap;
use std::rc::Rc;

/// A value of a pickle.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Text(Rc<str>),
    Tuple(Tuple),
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    Global(Global),
    Storage(Rc<Storage>),
    Tensor(Rc<Tensor>),
}

/// Values that may be in many places, with their [`depth`], which is not computed anew in each.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tuple {
    items: Rc<[Value]>,
    depth: usize,
}

impl From<Vec<Value>> for Tuple {
    fn from(items: Vec<Value>) -> Self {
        let depth = 1 + items.iter().map(depth).max().unwrap_or_default();
        Self { items: items.into(), depth }
    }
}

/// A name that a pickle may use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Global {
    /// `torch._utils._rebuild_tensor_v2`, whose storage has the type.
    TypedTensor,
    /// `torch._utils._rebuild_tensor_v3`, which names the type itself.
    UntypedTensor,
    /// `collections.OrderedDict`, of a tensor's hooks.
    OrderedDict,
    /// A class of storages: of numbers of one type, or of bytes.
    Storage(Option<Dtype>),
    /// A type of numbers.
    Dtype(Dtype),
}

impl Global {
    fn of(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("torch._utils", "_rebuild_tensor_v2") => Self::TypedTensor,
            ("torch._utils", "_rebuild_tensor_v3") => Self::UntypedTensor,
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch.storage", "UntypedStorage") => Self::Storage(None),
            ("torch", name) => match name.strip_suffix("Storage") {
                Some(name) => Self::Storage(Some(Dtype::of_storage(name)?)),
                None => Self::Dtype(Dtype::of(name)?),
            },
            _ => return None,
        })
    }
}

/// Reads a pickle.
///
/// # Errors
/// What it needs and this reader does not know, with its place.
pub(super) fn read(bytes: &[u8]) -> Result<Value, String> {
    let mut machine = Machine { bytes, at: 0, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    loop {
        let start = machine.at;
        match machine.step() {
            Ok(None) => {}
            Ok(Some(value)) => return Ok(value),
            Err(problem) => return Err(format!("byte {start} of the pickle: {problem}")),
        }
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    /// Heights of the stack.
    marks: Vec<usize>,
    /// Values that may be used again. Lists and dictionaries are not among them, because they are filled later.
    memo: HashMap<u32, Value>,
}

impl Machine<'_> {
    /// Runs an instruction; returns the result after the last one.
    fn step(&mut self) -> Result<Option<Value>, String> {
        let value = match self.byte()? {
            0x80 => return self.protocol().map(|()| None),
            b'.' => return self.pop().map(Some),
            b'(' => {
                self.marks.push(self.stack.len());
                return Ok(None);
            }
            b'q' => return self.byte().and_then(|index| self.remember(index.into())).map(|()| None),
            b'r' => return self.number().and_then(|index| self.remember(index)).map(|()| None),
            b'a' | b'e' | b's' | b'u' => return self.fill().map(|()| None),
            b'h' => self.byte().and_then(|index| self.recall(index.into()))?,
            b'j' => self.number().and_then(|index| self.recall(index))?,
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'K' => Value::Int(self.byte()?.into()),
            b'M' => Value::Int(self.array().map(u16::from_le_bytes)?.into()),
            b'J' => Value::Int(self.array().map(i32::from_le_bytes)?.into()),
            0x8a => Value::Int(self.long()?),
            b'X' => self.text()?,
            b'}' => Value::Dict(Vec::new()),
            b']' => Value::List(Vec::new()),
            b')' => Value::Tuple(Vec::new().into()),
            b't' => Value::Tuple(self.since_mark()?.into()),
            count @ 0x85..=0x87 => Value::Tuple(self.last(usize::from(count - 0x84))?.into()),
            b'c' => Value::Global(self.global()?),
            b'Q' => storage(&self.pop()?)?,
            b'R' => self.reduce()?,
            other => return Err(refused(other)),
        };
        check_depth(&value)?;
        self.stack.push(value);
        Ok(None)
    }

    fn protocol(&mut self) -> Result<(), String> {
        match self.byte()? {
            2 => Ok(()),
            other => Err(format!("it is of protocol {other}, torch.save writes 2")),
        }
    }

    /// Puts what stands above a list or a dictionary into it: one item, or all since the mark.
    fn fill(&mut self) -> Result<(), String> {
        let items = match self.bytes[self.at - 1] {
            b'a' => self.last(1)?,
            b's' => self.last(2)?,
            _ => self.since_mark()?,
        };
        items.iter().try_for_each(check_depth)?;
        match (self.bytes[self.at - 1], self.stack.last_mut()) {
            (b'a' | b'e', Some(Value::List(list))) => list.extend(items),
            (b's' | b'u', Some(Value::Dict(dict))) if items.len().is_multiple_of(2) => {
                let mut items = items.into_iter();
                while let (Some(key), Some(value)) = (items.next(), items.next()) {
                    dict.push((key, value));
                }
            }
            _ => return Err("items without the list or dictionary that they belong to".to_owned()),
        }
        Ok(())
    }

    fn remember(&mut self, index: u32) -> Result<(), String> {
        match self.stack.last().ok_or(EMPTY)? {
            Value::List(_) | Value::Dict(_) => {}
            value => drop(self.memo.insert(index, value.clone())),
        }
        Ok(())
    }

    fn recall(&self, index: u32) -> Result<Value, String> {
        let value = self.memo.get(&index).cloned();
        value.ok_or_else(|| format!("value {index} was not stored before, or is a list or a dictionary used twice"))
    }

    fn global(&mut self) -> Result<Global, String> {
        let (module, name) = (self.line()?.to_owned(), self.line()?);
        Global::of(&module, name).ok_or_else(|| {
            format!(
                "it uses `{module}.{name}`, which a dictionary of tensors does not need: it is refused, not executed"
            )
        })
    }

    /// What the name under the arguments makes of them.
    fn reduce(&mut self) -> Result<Value, String> {
        let (arguments, callee) = (self.pop()?, self.pop()?);
        let (Value::Tuple(arguments), Value::Global(callee)) = (&arguments, &callee) else {
            return Err("a call of something that is no name, or without arguments".to_owned());
        };
        match (callee, &*arguments.items) {
            (Global::OrderedDict, []) => Ok(Value::Dict(Vec::new())),
            (Global::TypedTensor, [Value::Storage(storage), offset, size, stride, ..]) => {
                let dtype = storage.dtype.ok_or("a tensor whose type of numbers is not named")?;
                tensor(storage, dtype, (offset, size, stride))
            }
            (
                Global::UntypedTensor,
                [Value::Storage(storage), offset, size, stride, _, _, Value::Global(Global::Dtype(dtype)), ..],
            ) => tensor(storage, *dtype, (offset, size, stride)),
            _ => Err(format!("a call of {callee:?} with other arguments than torch.save writes")),
        }
    }

    fn byte(&mut self) -> Result<u8, String> {
        self.array().map(|[byte]| byte)
    }

    fn number(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    /// An integer with its number of bytes in front of it.
    fn long(&mut self) -> Result<i64, String> {
        let length = usize::from(self.byte()?);
        let bytes = self.take(length)?;
        let fill = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
        let mut number = [fill; 8];
        number.get_mut(..length).ok_or("an integer of more than 64 bits")?.copy_from_slice(bytes);
        Ok(i64::from_le_bytes(number))
    }

    fn text(&mut self) -> Result<Value, String> {
        let length = self.number()? as usize;
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| "a text that is no UTF-8")?;
        Ok(Value::Text(text.into()))
    }

    fn line(&mut self) -> Result<&str, String> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|byte| *byte == b'\n').ok_or(CUT_OFF)?;
        self.at += length + 1;
        std::str::from_utf8(&rest[..length]).map_err(|_| "a name that is no UTF-8".to_owned())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.take(N)?.try_into().map_err(|_| CUT_OFF.to_owned())
    }

    fn take(&mut self, length: usize) -> Result<&[u8], String> {
        let taken = self.bytes.get(self.at..).and_then(|rest| rest.get(..length)).ok_or(CUT_OFF)?;
        self.at += length;
        Ok(taken)
    }

    fn pop(&mut self) -> Result<Value, String> {
        self.last(1)?.pop().ok_or_else(|| EMPTY.to_owned())
    }

    /// The topmost values, which belong to no earlier mark.
    fn last(&mut self, count: usize) -> Result<Vec<Value>, String> {
        let floor = self.marks.last().copied().unwrap_or_default();
        let start = self.stack.len().checked_sub(count).filter(|start| *start >= floor).ok_or(EMPTY)?;
        Ok(self.stack.split_off(start))
    }

    fn since_mark(&mut self) -> Result<Vec<Value>, String> {
        let start = self.marks.pop().ok_or("items without a mark before them")?;
        Ok(self.stack.split_off(start))
    }
}

/// How deep tuples, lists and dictionaries may be within each other: a shape is in the arguments of a tensor.
const DEEPEST: usize = 4;

/// How many dimensions a tensor may have; those of log-probabilities have three.
const MOST_DIMENSIONS: usize = 8;

/// Rejects values whose nesting no dictionary of tensors has, before it is too deep to be walked.
fn check_depth(value: &Value) -> Result<(), String> {
    match depth(value) < DEEPEST {
        true => Ok(()),
        false => Err(format!("values in values, deeper than {DEEPEST}")),
    }
}

fn depth(value: &Value) -> usize {
    let within: &mut dyn Iterator<Item = &Value> = match value {
        Value::Tuple(tuple) => return tuple.depth,
        Value::List(items) => &mut items.iter(),
        Value::Dict(items) => &mut items.iter().flat_map(|(key, value)| [key, value]),
        _ => return 0,
    };
    1 + within.map(depth).max().unwrap_or_default()
}

const CUT_OFF: &str = "it is cut off";
const EMPTY: &str = "a value is missing on the stack";

/// The sentence about an opcode that is not known here.
fn refused(opcode: u8) -> String {
    let name = match opcode {
        b'i' => "INST",
        b'o' => "OBJ",
        b'b' => "BUILD",
        0x81 => "NEWOBJ",
        0x92 => "NEWOBJ_EX",
        0x93 => "STACK_GLOBAL",
        0x82..=0x84 => "EXT",
        _ => "unnamed here",
    };
    format!("opcode {opcode:#04x} ({name}) does not belong to a dictionary of tensors: it is refused, not executed")
}

/// What a persistent id names: `("storage", class, key, device, number of numbers)`.
fn storage(id: &Value) -> Result<Value, String> {
    let Value::Tuple(parts) = id else { return Err("a persistent id that is no tuple".to_owned()) };
    match &*parts.items {
        [Value::Text(kind), Value::Global(Global::Storage(dtype)), Value::Text(key), _, Value::Int(count)]
            if &**kind == "storage" && *count >= 0 =>
        {
            Ok(Value::Storage(Rc::new(Storage { dtype: *dtype, key: key.clone(), count: *count as u64 })))
        }
        _ => Err("a persistent id that names no storage".to_owned()),
    }
}

fn tensor(storage: &Rc<Storage>, dtype: Dtype, place: (&Value, &Value, &Value)) -> Result<Value, String> {
    let (Value::Int(offset), size, stride) = place else { return Err("a tensor without an offset".to_owned()) };
    let tensor = Tensor {
        storage: storage.clone(),
        dtype,
        offset: natural(*offset)?,
        size: numbers(size)?,
        stride: numbers(stride)?,
    };
    tensor.check().map(|()| Value::Tensor(Rc::new(tensor)))
}

fn numbers(tuple: &Value) -> Result<Vec<u64>, String> {
    let Value::Tuple(Tuple { items, .. }) = tuple else { return Err("a shape that is no tuple".to_owned()) };
    if items.len() > MOST_DIMENSIONS {
        return Err(format!("a shape of {} dimensions", items.len()));
    }
    let number = |item: &Value| match item {
        Value::Int(number) => natural(*number),
        _ => Err("a shape that is no tuple of integers".to_owned()),
    };
    items.iter().map(number).collect()
}

fn natural(number: i64) -> Result<u64, String> {
    u64::try_from(number).map_err(|_| format!("a tensor with the negative size or stride {number}"))
}

#[cfg(test)]
mod tests;
