//! Decoding in other threads, before samples are requested.

use super::{Page, PageKey, Place};
use crate::reader::CacheReader;
use crate::row_group::CachedSample;
use crate::schema::ROWS_PER_PAGE;
use std::collections::{HashMap, HashSet, VecDeque};
use std::num::NonZero;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

/// Samples of a page by their ids.
pub(super) type Rows = HashMap<u64, CachedSample>;

/// Threads that decode the pages of this window, and slowly those of the next.
#[derive(Debug)]
pub(super) struct ReadAhead {
    requests: Sender<(Page, SyncSender<Rows>)>,
    /// Where the rows of each requested page arrive, if they can be decoded.
    pending: HashMap<PageKey, Receiver<Rows>>,
    /// The next window in its order, and those of its pages that were not requested yet.
    places: Option<Vec<Place>>,
    pages: VecDeque<Page>,
    /// Number of samples that were taken since the last request.
    taken: usize,
}

impl ReadAhead {
    /// Starts the threads, which end with `self`.
    pub(super) fn start(reader: &CacheReader, threads: NonZero<usize>) -> Self {
        let (requests, requested) = channel::<(Page, SyncSender<Rows>)>();
        let requested = Arc::new(Mutex::new(requested));
        for _ in 0..threads.get() {
            let (reader, requested) = (reader.clone(), requested.clone());
            std::thread::spawn(move || {
                let next = || requested.lock().unwrap_or_else(PoisonError::into_inner).recv();
                while let Ok((page, out)) = next() {
                    // Without an answer, the reader of the samples decodes the page itself, and meets the error in turn.
                    if let Ok(rows) = page.decode(&reader) {
                        _ = out.send(rows);
                    }
                }
            });
        }
        Self { requests, pending: HashMap::new(), places: None, pages: VecDeque::new(), taken: 0 }
    }

    /// Begins the window that was the next one, of which all pages are requested now, and returns its places. `next` is
    /// the one that follows it.
    pub(super) fn begin(&mut self, next: Option<Vec<Place>>) -> Option<Vec<Place>> {
        // Pages of the finished window are left where samples were skipped.
        let begun: HashSet<PageKey> = self.places.iter().flatten().map(|place| place.page()).collect();
        self.pending.retain(|key, _| begun.contains(key));
        while let Some(page) = self.pages.pop_front() {
            self.request(page);
        }
        self.pages = next.iter().flat_map(|places| Page::of(places)).collect();
        std::mem::replace(&mut self.places, next)
    }

    /// The rows of a page, for which it waits; `None` if they were taken or could not be decoded. It is called for each
    /// sample that is returned: the next window is decoded at the rate at which this one is used up, so that memory holds
    /// the samples of one window at any time.
    pub(super) fn take(&mut self, key: PageKey) -> Option<Rows> {
        self.taken += 1;
        if self.taken == ROWS_PER_PAGE {
            self.taken = 0;
            if let Some(page) = self.pages.pop_front() {
                self.request(page);
            }
        }
        self.pending.remove(&key)?.recv().ok()
    }

    fn request(&mut self, page: Page) {
        let (out, rows) = sync_channel(1);
        let key = page.key;
        if self.requests.send((page, out)).is_ok() {
            self.pending.insert(key, rows);
        }
    }
}
