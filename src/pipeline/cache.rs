//! A bounded cache of what takes long to prepare, such as the graphs of an image size.

use crate::error::{ErrorKind, Result};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Prepared values by key, least recently used first.
///
/// Preparation holds no lock of the cache: a thread whose value is ready does not wait for that of
/// another thread, and threads that ask for the same value wait for one preparation.
pub(crate) struct Cache<K, V> {
    capacity: usize,
    entries: Mutex<VecDeque<(K, Cell<V>)>>,
}

/// The place of a value; locked while it is prepared, and empty if that failed.
type Cell<V> = Arc<Mutex<Option<V>>>;

impl<K: PartialEq, V: Clone> Cache<K, V> {
    /// Creates a cache of at most `capacity` values.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, entries: Mutex::default() }
    }

    /// Drops all values. One that is being prepared is returned to those who wait for it, and not
    /// kept.
    pub(crate) fn clear(&self) {
        lock(&self.entries).clear();
    }

    /// Returns the cached value for `key`, or prepares and caches it. If memory runs out, the
    /// other values are dropped, and the preparation is repeated once.
    ///
    /// # Errors
    /// Returns the errors of `prepare`; they are not cached.
    pub(crate) fn get(&self, key: K, prepare: impl Fn() -> Result<V>) -> Result<V> {
        let cell = self.cell(key);
        let mut value = lock(&cell);
        if let Some(value) = &*value {
            return Ok(value.clone());
        }
        let prepared = match prepare() {
            Err(e) if e.kind() == ErrorKind::OutOfMemory && self.drop_others(&cell) => prepare(),
            result => result,
        }?;
        Ok(value.insert(prepared).clone())
    }

    /// Returns the place of a value, as the most recently used one.
    fn cell(&self, key: K) -> Cell<V> {
        let mut entries = lock(&self.entries);
        let entry = match entries.iter().position(|(k, _)| *k == key) {
            Some(at) => entries.remove(at).expect("invariant: the position exists"),
            None => {
                entries.retain(|(_, cell)| Arc::strong_count(cell) > 1 || lock(cell).is_some());
                // Evict first, so that the memory of both is never needed at once.
                while entries.len() >= self.capacity {
                    entries.pop_front();
                }
                (key, Cell::default())
            }
        };
        let cell = entry.1.clone();
        entries.push_back(entry);
        cell
    }

    /// Drops all values that are ready. Returns whether there were any.
    fn drop_others(&self, own: &Cell<V>) -> bool {
        let mut entries = lock(&self.entries);
        let count = entries.len();
        entries.retain(|(_, cell)| Arc::ptr_eq(cell, own) || cell.try_lock().is_err());
        entries.len() < count
    }

    /// Blocks all other calls until the guard is dropped.
    #[cfg(test)]
    pub(crate) fn block(&self) -> impl Sized + '_ {
        lock(&self.entries)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::error;
    use std::cell::Cell as Count;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::thread;

    #[test]
    fn a_ready_value_does_not_wait_for_the_preparation_of_another() {
        let cache = Cache::new(3);
        let get = |key, value| cache.get(key, || Ok(value)).unwrap();
        assert_eq!(get("ready", 1), 1);
        let (started, wait_for_start) = mpsc::channel();
        let (finish, wait_for_finish) = mpsc::channel::<()>();
        let cache = &cache;
        thread::scope(|scope| {
            let slow = scope.spawn(move || {
                let prepare = || {
                    started.send(()).unwrap();
                    wait_for_finish.recv().unwrap();
                    Ok(2)
                };
                cache.get("slow", prepare).unwrap()
            });
            wait_for_start.recv().unwrap();
            assert_eq!((get("ready", 9), get("third", 3)), (1, 3));
            finish.send(()).unwrap();
            assert_eq!(slow.join().unwrap(), 2);
        });
        assert_eq!(get("slow", 9), 2);
    }

    #[test]
    fn threads_that_ask_for_the_same_value_prepare_it_once() {
        let cache = Cache::new(1);
        let count = AtomicUsize::new(0);
        let (started, wait_for_start) = mpsc::channel();
        let (finish, wait_for_finish) = mpsc::channel::<()>();
        let (cache, count) = (&cache, &count);
        thread::scope(|scope| {
            let first = scope.spawn(move || {
                let prepare = || {
                    started.send(()).unwrap();
                    wait_for_finish.recv().unwrap();
                    Ok(count.fetch_add(1, Ordering::Relaxed))
                };
                cache.get((), prepare).unwrap()
            });
            wait_for_start.recv().unwrap();
            let (asking, wait_for_second) = mpsc::channel();
            let second = scope.spawn(move || {
                asking.send(()).unwrap();
                cache.get((), || Ok(count.fetch_add(1, Ordering::Relaxed))).unwrap()
            });
            wait_for_second.recv().unwrap();
            finish.send(()).unwrap();
            assert_eq!((first.join().unwrap(), second.join().unwrap()), (0, 0));
        });
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn the_least_recently_used_value_is_dropped_before_another_is_prepared() {
        let cache = Cache::new(2);
        let value = |n: u32| Arc::new(n);
        let one = cache.get(1, || Ok(value(1))).unwrap();
        let two = cache.get(2, || Ok(value(2))).unwrap();
        cache.get(1, || Ok(value(9))).unwrap();
        cache
            .get(3, || {
                assert_eq!((Arc::strong_count(&one), Arc::strong_count(&two)), (2, 1));
                Ok(value(3))
            })
            .unwrap();
    }

    #[test]
    fn running_out_of_memory_drops_the_other_values_and_tries_again_once() {
        let cache = Cache::new(3);
        let one = cache.get(1, || Ok(Arc::new(1))).unwrap();
        let calls = Count::new(0);
        let prepare = || {
            calls.set(calls.get() + 1);
            if Arc::strong_count(&one) > 1 {
                Err(error!(OutOfMemory, "full"))
            } else {
                Ok(one.clone())
            }
        };
        assert!(cache.get(2, prepare).is_ok());
        assert_eq!(calls.get(), 2);
        // Nothing is left to drop, so there is no second attempt, and the error is not cached.
        let cache = Cache::<u32, u32>::new(3);
        calls.set(0);
        let fail = || {
            calls.set(calls.get() + 1);
            Err(error!(OutOfMemory, "full"))
        };
        assert!(cache.get(1, fail).is_err());
        assert_eq!((calls.get(), cache.get(1, || Ok(7)).unwrap()), (1, 7));
    }
}
