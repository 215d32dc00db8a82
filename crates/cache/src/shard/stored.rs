//! The bytes of an open shard: each range is read and verified at its first use.

use crate::error::{Error, Result};
use crate::ranges::{self, ShardRange};
use crate::shard_part::ShardPart;
use crate::store::{ObjectMeta, Store, check_length};
use bytes::Bytes;
use logitcask_core::Fingerprint;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Which ranges had the recorded hashes when the file had this length and modification time. It outlives the open shard,
/// so that a shard that is opened again is not hashed again.
#[derive(Debug)]
pub(crate) struct Proof {
    meta: ObjectMeta,
    verified: Box<[AtomicBool]>,
}

impl Proof {
    /// The proof for a file in the state `meta`: `before`, if it is for the same state.
    fn of(meta: ObjectMeta, ranges: usize, before: Option<Arc<Self>>) -> Arc<Self> {
        let is_same = |proof: &Arc<Self>| proof.meta == meta && meta.modified.is_some();
        let new = || Arc::new(Self { meta, verified: (0..ranges).map(|_| AtomicBool::new(false)).collect() });
        before.filter(is_same).unwrap_or_else(new)
    }
}

/// The bytes of a shard.
pub(super) enum ShardBytes {
    /// Bytes whose hash counts as verified: every range is the whole.
    Whole(Bytes),
    /// A shard of a store.
    Stored(StoredBytes),
}

/// The bytes of a shard in a store, with the hashes of its ranges.
pub(super) struct StoredBytes {
    store: Arc<dyn Store>,
    name: String,
    ranges: Vec<ShardRange>,
    places: Vec<Range<u64>>,
    /// All bytes, where the store maps files. Another process might cut the file.
    map: Option<Bytes>,
    /// The ranges that were used.
    used: Vec<OnceLock<Bytes>>,
    proof: Arc<Proof>,
    /// Held while a range is read: a second thread waits for it instead of reading and hashing the same bytes.
    turn: Mutex<()>,
}

impl StoredBytes {
    /// Opens the shard `name`, which must have the length of its ranges.
    pub(super) fn open(
        store: &Arc<dyn Store>,
        name: &str,
        ranges: &[ShardRange],
        proof: Option<Arc<Proof>>,
    ) -> Result<Self> {
        let expected = ranges::places(ranges).last().map_or(0, |place| place.end);
        let meta = check_length(store.as_ref(), name, expected)?;
        let map = store.map(name)?;
        if let Some(map) = map.as_ref().filter(|map| map.len() as u64 != expected) {
            return Err(Error::Size { path: store.path(name), expected, got: map.len() as u64 });
        }
        Ok(Self::new(store, name, ranges, map, Proof::of(meta, ranges.len(), proof)))
    }

    /// The shard `name` with `bytes` that have the hashes of its ranges.
    pub(super) fn verified(store: &Arc<dyn Store>, name: &str, ranges: &[ShardRange], bytes: Bytes) -> Self {
        let meta = ObjectMeta { bytes: bytes.len() as u64, modified: None };
        let proof = Proof { meta, verified: ranges.iter().map(|_| AtomicBool::new(true)).collect() };
        let this = Self::new(store, name, ranges, None, Arc::new(proof));
        for (place, used) in this.places.iter().zip(&this.used) {
            // The places end with the bytes, as whoever compared the hashes knows.
            let _ = used.set(bytes.slice(place.start as usize..place.end as usize));
        }
        this
    }

    fn new(store: &Arc<dyn Store>, name: &str, ranges: &[ShardRange], map: Option<Bytes>, proof: Arc<Proof>) -> Self {
        Self {
            store: store.clone(),
            name: name.to_owned(),
            ranges: ranges.to_vec(),
            places: ranges::places(ranges),
            map,
            used: ranges.iter().map(|_| OnceLock::new()).collect(),
            proof,
            turn: Mutex::new(()),
        }
    }

    /// Reads and verifies a range.
    fn load(&self, number: usize, part: &dyn Fn() -> ShardPart) -> Result<Bytes> {
        let place = self.places[number].clone();
        let bytes = match &self.map {
            Some(map) => map.slice(place.start as usize..place.end as usize),
            None => self.store.get_range(&self.name, place)?,
        };
        let verified = &self.proof.verified[number];
        if !verified.load(Ordering::Acquire) {
            let (got, expected) = (Fingerprint::of(&bytes), self.ranges[number].blake3);
            if got != expected {
                return Err(Error::Damaged {
                    path: self.store.path(&self.name),
                    part: Box::new(part()),
                    expected,
                    got,
                });
            }
            verified.store(true, Ordering::Release);
        }
        Ok(bytes)
    }
}

impl ShardBytes {
    /// Number of bytes of the shard.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Stored(stored) => stored.places.last().map_or(0, |place| place.end),
        }
    }

    /// Whether used ranges are copied into memory.
    pub(super) fn takes_memory(&self) -> bool {
        !matches!(self, Self::Stored(stored) if stored.map.is_some())
    }

    /// Number of row groups that have a range; `None` if they share one.
    pub(super) fn row_groups(&self) -> Option<usize> {
        match self {
            Self::Whole(_) => None,
            Self::Stored(stored) => Some(stored.ranges.len() - 1),
        }
    }

    /// Place of a row group's range in the shard; behind the last row group follows the rest.
    pub(super) fn place(&self, number: usize) -> Range<usize> {
        match self {
            Self::Whole(bytes) => 0..bytes.len(),
            Self::Stored(stored) => stored.places[number].start as usize..stored.places[number].end as usize,
        }
    }

    /// The verified bytes of a range; `part` is how an error names it.
    pub(super) fn get(&self, number: usize, part: &dyn Fn() -> ShardPart) -> Result<&Bytes> {
        let stored = match self {
            Self::Whole(bytes) => return Ok(bytes),
            Self::Stored(stored) => stored,
        };
        if let Some(bytes) = stored.used[number].get() {
            return Ok(bytes);
        }
        let _turn = stored.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = stored.used[number].get() {
            return Ok(bytes);
        }
        let bytes = stored.load(number, part)?;
        Ok(stored.used[number].get_or_init(|| bytes))
    }

    /// The verified bytes behind the row groups.
    pub(super) fn rest(&self) -> Result<&Bytes> {
        self.get(self.row_groups().unwrap_or(0), &|| ShardPart::Footer)
    }

    /// Rejects a mapped shard whose length has changed, because pages of a map beyond the end of its file cannot be
    /// accessed. It asks the store rather than an open file, of which a cache with many shards would need too many.
    pub(super) fn check_whole(&self) -> Result<()> {
        match self {
            Self::Stored(stored) if stored.map.is_some() => {
                check_length(stored.store.as_ref(), &stored.name, self.len()).map(|_| ())
            }
            _ => Ok(()),
        }
    }

    /// What was verified.
    pub(super) fn proof(&self) -> Option<Arc<Proof>> {
        match self {
            Self::Whole(_) => None,
            Self::Stored(stored) => Some(stored.proof.clone()),
        }
    }
}
