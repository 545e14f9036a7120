//! The order of steps that do not all have room: found by going through the plan before it runs.
//!
//! With room for everybody the longest remaining path is all that counts. Where slots are few, so does the work beside
//! it: a step may have a short path after it and still have to start early, or slots stand empty at the end. So the
//! plan is laid out on its slots, each step as long as it is expected to take, and then once more from its end, what
//! ended last coming first: now every step starts as late as it can. How long before the end that is, is its rank.
//! (*Forward-backward improvement*, K. Y. Li and R. J. Willis, 1992; *justification*, V. Valls, F. Ballestín and
//! S. Quintanilla, European Journal of Operational Research 165, 2005.)
//!
//! Each of these passes is a list schedule, in time O(n log n).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Steps by their places, and what each is expected to take.
#[derive(Debug)]
pub(super) struct Rehearsal {
    expected: Vec<u64>,
    /// Those that have begun: whatever the ranks, they come first.
    begun: Vec<bool>,
    dependencies: Neighbors,
    dependents: Neighbors,
}

/// When steps end if they start by a certain order, counted from where the order begins.
#[derive(Debug)]
struct Layout {
    ends: Vec<u64>,
    length: u64,
}

impl Rehearsal {
    /// Steps that are expected to take so long, with an edge from each dependency to its dependent.
    pub(super) fn new(expected: Vec<u64>, begun: Vec<bool>, edges: &[(u32, u32)]) -> Self {
        let count = expected.len();
        Self {
            expected,
            begun,
            dependencies: Neighbors::new(count, edges.iter().map(|&(dependency, dependent)| (dependent, dependency))),
            dependents: Neighbors::new(count, edges.iter().copied()),
        }
    }

    /// Ranks by which the plan takes less time on so many slots than by its longest remaining `paths`; none if these
    /// are as good.
    pub(super) fn better_ranks(&self, paths: &[u64], slots: usize) -> Option<Vec<u64>> {
        let by_path = self.forward(paths, slots);
        if by_path.length <= self.bound(paths, slots) {
            return None;
        }
        let mut best = None;
        let mut shortest = by_path.length;
        // Two ways to begin, as neither is the better one for all plans.
        for first in [by_path, self.forward(&self.earliest_first(), slots)] {
            let ranks = self.backward(&first.ends, slots).ends;
            let length = self.forward(&ranks, slots).length;
            if length < shortest {
                shortest = length;
                best = Some(ranks);
            }
        }
        best
    }

    /// What no order can beat.
    fn bound(&self, paths: &[u64], slots: usize) -> u64 {
        let work: u64 = self.expected.iter().fold(0, |work, expected| work.saturating_add(*expected));
        paths.iter().copied().max().unwrap_or(0).max(work.div_ceil(slots as u64))
    }

    /// What could start first if there was room for everybody ranks highest.
    fn earliest_first(&self) -> Vec<u64> {
        let ends = self.lay_out(&self.places(), &self.dependencies, &self.dependents, usize::MAX).ends;
        ends.iter().zip(&self.expected).map(|(end, expected)| u64::MAX - end.saturating_sub(*expected)).collect()
    }

    /// As the scheduler starts steps of these ranks.
    fn forward(&self, ranks: &[u64], slots: usize) -> Layout {
        let mut order = self.places();
        order.sort_unstable_by_key(|&step| (!self.begun[step as usize], Reverse(ranks[step as usize]), step));
        self.lay_out(&order, &self.dependencies, &self.dependents, slots)
    }

    /// From the end of a layout to its beginning: what ended last comes first.
    fn backward(&self, ends: &[u64], slots: usize) -> Layout {
        let mut order = self.places();
        order.sort_unstable_by_key(|&step| Reverse((ends[step as usize], step)));
        self.lay_out(&order, &self.dependents, &self.dependencies, slots)
    }

    fn places(&self) -> Vec<u32> {
        (0..self.expected.len() as u32).collect()
    }

    /// Starts the first step of `order` that is ready whenever there is a slot.
    fn lay_out(&self, order: &[u32], before: &Neighbors, after: &Neighbors, slots: usize) -> Layout {
        let mut place = vec![0_u32; order.len()];
        for (index, &step) in (0..).zip(order) {
            place[step as usize] = index;
        }
        let mut unmet: Vec<u32> = (0..order.len()).map(|step| before.of(step).len() as u32).collect();
        let mut ready: BinaryHeap<Reverse<u32>> =
            (0..order.len()).filter(|&step| unmet[step] == 0).map(|step| Reverse(place[step])).collect();
        // By their ends, and those of one instant in the order of their starts.
        let mut running: BinaryHeap<Reverse<(u64, u32, u32)>> = BinaryHeap::new();
        let mut layout = Layout { ends: vec![0; order.len()], length: 0 };
        let mut started = 0;
        loop {
            while running.len() < slots {
                let Some(Reverse(index)) = ready.pop() else { break };
                let step = order[index as usize];
                let end = layout.length.saturating_add(self.expected[step as usize]);
                layout.ends[step as usize] = end;
                running.push(Reverse((end, started, step)));
                started += 1;
            }
            let Some(Reverse((end, _, step))) = running.pop() else { return layout };
            layout.length = end;
            for &next in after.of(step as usize) {
                unmet[next as usize] -= 1;
                if unmet[next as usize] == 0 {
                    ready.push(Reverse(place[next as usize]));
                }
            }
        }
    }
}

/// The neighbors of every step on one side, one after the other.
#[derive(Debug)]
struct Neighbors {
    flat: Vec<u32>,
    starts: Vec<u32>,
}

impl Neighbors {
    /// From pairs of a step and its neighbor, those of one step in the order in which they come.
    fn new(count: usize, pairs: impl Iterator<Item = (u32, u32)> + Clone) -> Self {
        let mut starts = vec![0_u32; count + 1];
        for (step, _) in pairs.clone() {
            starts[step as usize + 1] += 1;
        }
        for step in 0..count {
            starts[step + 1] += starts[step];
        }
        let mut next = starts.clone();
        let mut flat = vec![0; starts[count] as usize];
        for (step, neighbor) in pairs {
            flat[next[step as usize] as usize] = neighbor;
            next[step as usize] += 1;
        }
        Self { flat, starts }
    }

    fn of(&self, step: usize) -> &[u32] {
        &self.flat[self.starts[step] as usize..self.starts[step + 1] as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_beside_the_longest_path_starts_before_it_is_all_that_is_left() {
        // The longest paths are those of the first, which the last comes after, and of the third. But both of them
        // first leaves two steps for a slot and a half.
        let rehearsal = Rehearsal::new(vec![1, 2, 3, 2], vec![false; 4], &[(0, 3)]);
        let paths = [3, 2, 3, 2];
        assert_eq!(rehearsal.forward(&paths, 2).length, 5);
        let ranks = rehearsal.better_ranks(&paths, 2).expect("there is a better order");
        assert_eq!(ranks, [4, 4, 3, 2]);
        assert_eq!(rehearsal.forward(&ranks, 2).length, 4, "as much as two slots can do");
        assert_eq!(rehearsal.better_ranks(&ranks, 2), None, "and nothing is better");
    }

    #[test]
    fn where_nothing_is_lost_paths_are_as_good_as_anything() {
        let rehearsal = Rehearsal::new(vec![5, 1, 2], vec![false; 3], &[(0, 2), (1, 2)]);
        assert_eq!(rehearsal.better_ranks(&[7, 3, 2], 2), None);
        assert_eq!(rehearsal.better_ranks(&[7, 3, 2], 1), None);
    }
}
