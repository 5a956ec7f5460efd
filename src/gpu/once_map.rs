//! Values by key, each created on first use while no other key waits.

use crate::error::Result;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A shared map whose values take long to create (compiling a shader, folding and uploading a
/// parameter). A value is created once, however many threads ask for it, and only those wait.
pub(super) struct OnceMap<K, V> {
    cells: Mutex<HashMap<K, Cell<V>>>,
}

/// The place of a value; locked while it is created, and empty if that failed.
type Cell<V> = Arc<Mutex<Option<V>>>;

impl<K, V> Default for OnceMap<K, V> {
    fn default() -> Self {
        Self { cells: Mutex::default() }
    }
}

impl<K: Eq + Hash, V: Clone> OnceMap<K, V> {
    /// Returns the value of `key`, created on first use. Before another value is created, those
    /// that `is_used` refuses are dropped.
    ///
    /// # Errors
    /// Returns the errors of `create`; they are not stored.
    pub(super) fn get_or_create(
        &self,
        key: K,
        is_used: impl Fn(&V) -> bool,
        create: impl FnOnce() -> Result<V>,
    ) -> Result<V> {
        let cell = self.cell(key, is_used);
        let mut value = lock(&cell);
        if value.is_none() {
            *value = Some(create()?);
        }
        Ok(value.clone().expect("invariant: the value was just created"))
    }

    fn cell(&self, key: K, is_used: impl Fn(&V) -> bool) -> Cell<V> {
        let mut cells = lock(&self.cells);
        if let Some(cell) = cells.get(&key) {
            return cell.clone();
        }
        cells.retain(|_, cell| match cell.try_lock() {
            Ok(value) => value.as_ref().map_or(Arc::strong_count(cell) > 1, &is_used),
            // A value that is being created is used.
            Err(_) => true,
        });
        cells.entry(key).or_default().clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::error;
    use std::sync::mpsc;
    use std::thread;

    #[test]
    fn a_ready_value_does_not_wait_for_another_that_is_being_created() {
        let map = &OnceMap::<u32, u32>::default();
        let get = |key, value| map.get_or_create(key, |_| true, || Ok(value)).unwrap();
        assert_eq!(get(1, 10), 10);
        let (started, wait_for_start) = mpsc::channel();
        let (finish, wait_for_finish) = mpsc::channel::<()>();
        thread::scope(|scope| {
            let slow = scope.spawn(move || {
                let create = || {
                    started.send(()).unwrap();
                    wait_for_finish.recv().unwrap();
                    Ok(20)
                };
                map.get_or_create(2, |_| true, create).unwrap()
            });
            wait_for_start.recv().unwrap();
            assert_eq!((get(1, 11), get(3, 30)), (10, 30));
            finish.send(()).unwrap();
            assert_eq!(slow.join().unwrap(), 20);
        });
        assert_eq!(get(2, 21), 20, "created once");
    }

    #[test]
    fn an_error_is_not_stored_and_unused_values_are_dropped() {
        let map = OnceMap::<u32, Arc<u32>>::default();
        let fails = map.get_or_create(1, |_| true, || Err(error!(Shader, "no")));
        assert!(fails.is_err());
        let one = map.get_or_create(1, |_| true, || Ok(Arc::new(1))).unwrap();
        let is_used = |value: &Arc<u32>| Arc::strong_count(value) > 1;
        map.get_or_create(2, is_used, || Ok(Arc::new(2))).unwrap();
        assert_eq!(Arc::strong_count(&one), 2, "in use, so it is kept");
        let weak = Arc::downgrade(&one);
        drop(one);
        map.get_or_create(3, is_used, || Ok(Arc::new(3))).unwrap();
        assert!(weak.upgrade().is_none());
    }
}
