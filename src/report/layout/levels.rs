//! Which column each box is in.

/// How many boxes are before each one on the longest way. A box of a circle, which no plan has, is in the first column.
pub(crate) fn levels(before: &[Vec<usize>]) -> Vec<usize> {
    let mut open: Vec<usize> = before.iter().map(Vec::len).collect();
    let after = after(before);
    let mut levels = vec![0; before.len()];
    let mut ready: Vec<usize> = (0..before.len()).filter(|&node| open[node] == 0).collect();
    while let Some(node) = ready.pop() {
        for &next in &after[node] {
            levels[next] = levels[next].max(levels[node] + 1);
            open[next] -= 1;
            if open[next] == 0 {
                ready.push(next);
            }
        }
    }
    for (level, open) in levels.iter_mut().zip(open) {
        if open > 0 {
            *level = 0;
        }
    }
    levels
}

/// The boxes that depend on each one.
pub(super) fn after(before: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut after = vec![Vec::new(); before.len()];
    for (node, before) in before.iter().enumerate() {
        before.iter().for_each(|&earlier| after[earlier].push(node));
    }
    after
}

/// The lanes of a graph: each box whose lines pass other columns, and the last of those. None if there are too many.
pub(super) fn lanes(before: &[Vec<usize>], levels: &[usize]) -> Option<Vec<(usize, usize)>> {
    let mut last = vec![0; before.len()];
    for (node, before) in before.iter().enumerate() {
        for &earlier in before {
            last[earlier] = last[earlier].max(levels[node]);
        }
    }
    let passes = |node: usize| last[node].saturating_sub(levels[node] + 1);
    let all: usize = (0..before.len()).map(passes).sum();
    (all <= super::MOST_LANES).then(|| {
        let passed = |node: usize| (levels[node] + 1..last[node]).map(move |level| (node, level));
        (0..before.len()).flat_map(passed).collect()
    })
}
