//! The files that `torch.save` writes: ZIP archives of a pickle (`data.pkl`) and the bytes of the storages (`data/KEY`).

use super::pickle::{self, Value};
use super::tensor::{Array, Storage, Tensor};
use super::zip::Archive;
use std::collections::HashMap;
use std::rc::Rc;

/// Longest pickle that is read. That of a tensor has about 150 bytes.
const MAX_PICKLE: usize = 64 << 20;

/// An opened file.
pub(super) struct TorchFile<'a> {
    archive: Archive<'a>,
    /// Name of the folder in the archive, with its slash.
    folder: String,
    /// The storages that were read, by their keys.
    storages: HashMap<Rc<str>, Rc<[u8]>>,
}

impl<'a> TorchFile<'a> {
    /// Opens a file and reads its pickle.
    ///
    /// # Errors
    /// A file of another form, and a pickle of anything but tensors in lists and dictionaries.
    pub fn open(bytes: &'a [u8]) -> Result<(Self, Value), String> {
        let archive = Archive::open(bytes)?;
        let folder = archive.names().find_map(|name| name.strip_suffix("data.pkl").map(str::to_owned));
        let folder = folder.ok_or("it has no data.pkl, so that torch.save did not write it")?;
        let this = Self { archive, folder, storages: HashMap::new() };
        let order = this.archive.entry(&format!("{}byteorder", this.folder))?;
        if let Some(order) = order.filter(|order| *order != b"little") {
            return Err(format!("its byte order is {:?}, only little is read", String::from_utf8_lossy(order)));
        }
        let value = pickle::read(this.entry("data.pkl", MAX_PICKLE)?)?;
        Ok((this, value))
    }

    /// A tensor with its numbers. Tensors of one storage share its bytes.
    ///
    /// # Errors
    /// A storage that is missing, damaged, or of another length than the pickle says.
    pub fn array(&mut self, tensor: &Tensor) -> Result<Array, String> {
        let Storage { key, .. } = &*tensor.storage;
        let (name, expected) = (format!("data/{key}"), tensor.storage.bytes());
        let bytes = match self.storages.get(key) {
            Some(bytes) => bytes.clone(),
            None => self.entry(&name, usize::MAX)?.into(),
        };
        if bytes.len() as u64 != expected {
            return Err(format!("{name} has {} bytes, but the pickle says {expected}", bytes.len()));
        }
        self.storages.insert(key.clone(), bytes.clone());
        Ok(Array::new(tensor, bytes))
    }

    /// The bytes of an entry.
    fn entry(&self, name: &str, longest: usize) -> Result<&'a [u8], String> {
        let bytes = self.archive.entry(&format!("{}{name}", self.folder))?;
        let bytes = bytes.ok_or_else(|| format!("there is no {name} in it"))?;
        match bytes.len() <= longest {
            true => Ok(bytes),
            false => Err(format!("{name} has {} bytes, at most {longest} belong there", bytes.len())),
        }
    }
}
