//! What must hold for every layout.

use proptest::prelude::*;

use super::*;

/// What each of up to 60 boxes depends on, all before it.
fn graphs() -> impl Strategy<Value = Vec<Vec<usize>>> {
    prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..4), 1..60).prop_map(|drawn| {
        let before = |(node, drawn): (usize, Vec<prop::sample::Index>)| {
            let mut before: Vec<usize> =
                drawn.iter().filter(|_| node > 0).map(|index| index.index(node.max(1))).collect();
            before.sort_unstable();
            before.dedup();
            before
        };
        drawn.into_iter().enumerate().map(before).collect()
    })
}

/// Whether each column has room for its boxes in one stack. Where one more stack is needed, or one less, the columns to the
/// right of it make room for that.
fn has_one_stack(graph: &Graph) -> bool {
    largest_column(graph) <= MOST_IN_STACK
}

fn largest_column(graph: &Graph) -> usize {
    let before: Vec<Vec<usize>> = graph.iter().map(|before| before.clone().unwrap_or_default()).collect();
    let mut sizes = vec![0; graph.len()];
    for (node, level) in levels(&before).into_iter().enumerate() {
        sizes[level] += usize::from(graph[node].is_some());
    }
    sizes.into_iter().max().unwrap_or(0)
}

fn overlap(left: (u32, u32), right: (u32, u32)) -> bool {
    left.0.abs_diff(right.0) < BOX_WIDTH && left.1.abs_diff(right.1) < BOX_HEIGHT
}

fn check(layout: &Layout) {
    let places: Vec<(u32, u32)> = layout.places.iter().copied().flatten().collect();
    for (index, left) in places.iter().enumerate() {
        assert!(left.0 + BOX_WIDTH <= layout.width && left.1 + BOX_HEIGHT <= layout.height, "all is inside");
        assert!(places[index + 1..].iter().all(|right| !overlap(*left, *right)), "boxes do not overlap");
    }
    for line in &layout.lines {
        let (from, to) = (layout.places[line.from].unwrap(), layout.places[line.to].unwrap());
        assert!(from.0 + BOX_WIDTH < to.0, "lines lead to the right");
    }
}

proptest! {
    #[test]
    fn boxes_do_not_overlap_and_every_line_leads_forward(graph in graphs()) {
        let layout = Layout::of(&graph);
        check(&layout);
        prop_assert_eq!(layout.lines.len(), graph.iter().map(Vec::len).sum::<usize>());
    }

    /// What a terminal asks for: labels of any length that are next to each other on the level they are on.
    #[test]
    fn boxes_of_any_size_have_room_beside_each_other(graph in graphs(), sizes in prop::collection::vec(1_u32..30, 60)) {
        let levels = levels(&graph);
        let members = |level: usize| (0..graph.len()).filter(|node| levels[*node] == level).collect::<Vec<_>>();
        let by_level: Vec<Vec<usize>> = (0..=levels.iter().copied().max().unwrap_or(0)).map(members).collect();
        let length = by_level.iter().map(|level| level.iter().map(|&node| sizes[node]).sum()).max().unwrap_or(0);
        let extents = (0..graph.len()).map(|node| Extent { size: sizes[node], joint: sizes[node] / 2 });
        let places = places(&graph, extents.collect(), length);
        for mut level in by_level {
            level.sort_by_key(|&node| places[node]);
            let ends = level.iter().map(|&node| places[node] + sizes[node]);
            let next = level[1..].iter().map(|&node| places[node]).chain([length]);
            prop_assert!(ends.zip(next).all(|(end, next)| end <= next), "{:?} of {}", places, length);
        }
    }

    /// What is added to a plan depends on what was there, and nothing that was there moves.
    #[test]
    fn what_was_there_stays_where_it_was(graph in graphs(), first in 1_usize..60) {
        let first = graph[..first.min(graph.len())].to_vec();
        let before = Layout::of(&first);
        let now: Vec<Option<Vec<usize>>> = graph.into_iter().map(Some).collect();
        prop_assume!(largest_column(&now) <= MOST_IN_GROWN_STACK);
        let after = Layout::grown(&first, now.len(), [now]);
        check(&after);
        prop_assert_eq!(&after.places[..first.len()], &before.places[..]);
    }

    #[test]
    fn what_is_left_out_leaves_its_place_free(graph in graphs(), out in any::<prop::sample::Index>()) {
        let out = out.index(graph.len());
        let before = Layout::of(&graph);
        let mut now: Vec<Option<Vec<usize>>> = graph.iter().cloned().map(Some).collect();
        let is_last = !graph.iter().flatten().any(|earlier| *earlier == out);
        prop_assume!(is_last && has_one_stack(&now));
        now[out] = None;
        let mut after = Layout::grown(&graph, now.len(), [now]);
        check(&after);
        after.places[out] = before.places[out];
        prop_assert_eq!(after.places, before.places);
    }
}

/// What happens to a graph while a run goes on.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// A step becomes so many steps, which come after it and before what waits for it.
    Expand(prop::sample::Index, usize),
    /// They are folded again.
    Fold(prop::sample::Index),
    /// A step is added after another one.
    Add(prop::sample::Index),
    /// A step that nothing waits for is dropped.
    Drop(prop::sample::Index),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let index = any::<prop::sample::Index>;
    let change = prop_oneof![
        (index(), 1_usize..4).prop_map(|(at, count)| Change::Expand(at, count)),
        index().prop_map(Change::Fold),
        index().prop_map(Change::Add),
        index().prop_map(Change::Drop),
    ];
    prop::collection::vec(change, 1..7)
}

/// The graph after each change.
fn followed(first: &[Vec<usize>], changes: &[Change]) -> Vec<Vec<Option<Vec<usize>>>> {
    let mut graph: Vec<Option<Vec<usize>>> = first.iter().cloned().map(Some).collect();
    let mut expansions: Vec<(usize, Vec<usize>)> = Vec::new();
    let mut stages = vec![graph.clone()];
    for change in changes {
        let shown: Vec<usize> = (0..graph.len()).filter(|&node| graph[node].is_some()).collect();
        let replace = |graph: &mut Vec<Option<Vec<usize>>>, old: &[usize], new: &[usize]| {
            for before in graph.iter_mut().flatten().filter(|before| before.iter().any(|node| old.contains(node))) {
                before.retain(|node| !old.contains(node));
                before.extend(new);
            }
        };
        match *change {
            Change::Expand(at, count) if !shown.is_empty() => {
                let parent = *at.get(&shown);
                let children: Vec<usize> = (graph.len()..graph.len() + count).collect();
                replace(&mut graph, &[parent], &children);
                graph.extend(children.iter().map(|_| Some(vec![parent])));
                expansions.push((parent, children));
            }
            Change::Fold(at) if !expansions.is_empty() => {
                let (parent, children) = expansions.remove(at.index(expansions.len()));
                if graph[parent].is_some() && !expansions.iter().any(|(inner, _)| children.contains(inner)) {
                    children.iter().for_each(|&child| graph[child] = None);
                    replace(&mut graph, &children, &[parent]);
                }
            }
            Change::Add(at) if !shown.is_empty() => graph.push(Some(vec![*at.get(&shown)])),
            Change::Drop(at) => {
                let is_last = |node: &usize| !graph.iter().flatten().any(|before| before.contains(node));
                let last: Vec<usize> = shown.into_iter().filter(is_last).collect();
                if !last.is_empty() {
                    graph[*at.get(&last)] = None;
                }
            }
            _ => {}
        }
        stages.push(graph.clone());
    }
    let boxes = graph.len();
    stages.iter_mut().for_each(|stage| stage.resize(boxes, None));
    stages
}

/// What differs between two graphs, and all that comes after it in either.
fn concerned(old: &Graph, new: &Graph) -> Vec<bool> {
    let mut concerned: Vec<bool> = old.iter().zip(new).map(|(old, new)| old != new).collect();
    for _ in 0..old.len() {
        for node in 0..old.len() {
            let mut before = old[node].iter().chain(&new[node]).flatten();
            concerned[node] |= before.any(|earlier| concerned[*earlier]);
        }
    }
    concerned
}

proptest! {
    /// Whatever a run becomes, step by step: only what has changed, and what comes after that, moves.
    #[test]
    fn a_change_moves_only_what_comes_after_it(
        first in graphs().prop_map(|graph| graph[..graph.len().min(12)].to_vec()),
        changes in changes(),
    ) {
        let stages = followed(&first, &changes);
        prop_assume!(stages.iter().all(|stage| has_one_stack(stage)));
        let at = |stage: usize| Layout::grown(&first, stages[0].len(), stages[..=stage].iter().cloned());
        let mut before = at(0);
        for stage in 1..stages.len() {
            let after = at(stage);
            check(&after);
            let concerned = concerned(&stages[stage - 1], &stages[stage]);
            for node in (0..concerned.len()).filter(|node| !concerned[*node]) {
                prop_assert_eq!(before.places[node], after.places[node], "{} at {}: {:?}", node, stage, stages);
            }
            before = after;
        }
    }
}

/// Two halves that have nothing to do with each other, mixed up.
#[test]
fn an_order_is_found_in_which_nothing_crosses() {
    let graph = [vec![], vec![], vec![0], vec![1], vec![0], vec![1], vec![2, 4], vec![3, 5]];
    let places = Layout::of(&graph).places.into_iter().flatten().map(|(_, y)| y).collect::<Vec<_>>();
    let upper = places[0] < places[1];
    let is_apart = |left: usize, right: usize| (places[left] < places[right]) == upper;
    assert!([(2, 3), (2, 5), (4, 3), (4, 5), (6, 7)].iter().all(|&(left, right)| is_apart(left, right)), "{places:?}");
}

/// From the middle of its box a line goes straight through the next column, beside the box there.
#[test]
fn what_can_be_straight_is_straight() {
    let layout = Layout::of(&[vec![], vec![], vec![0], vec![1, 2]]);
    let passes = layout.lines.iter().find(|line| (line.from, line.to) == (1, 3)).unwrap();
    let (x, y) = layout.places[1].unwrap();
    let straight = format!("M{} {}H", x + BOX_WIDTH, y + BOX_HEIGHT / 2);
    assert!(passes.path.starts_with(&straight), "{} from {x} {y}", passes.path);
}

#[test]
fn many_boxes_of_a_column_become_stacks() {
    let mut graph: Vec<Vec<usize>> = vec![Vec::new(); 1_000];
    graph.push((0..1_000).collect());
    let layout = Layout::of(&graph);
    check(&layout);
    assert!(layout.height < 1_400, "{}", layout.height);
}

/// 24 boxes and what waits for them. A few more make their column higher; as many again as a stack holds, wider.
#[test]
fn a_few_boxes_more_move_nothing() {
    let mut first: Vec<Vec<usize>> = vec![Vec::new(); MOST_IN_STACK];
    first.push((0..MOST_IN_STACK).collect());
    let before = Layout::of(&first);
    for (more, moves) in [(1, false), (MOST_IN_STACK, false), (MOST_IN_STACK + 1, true)] {
        let now: Vec<Option<Vec<usize>>> = first.iter().cloned().chain(vec![Vec::new(); more]).map(Some).collect();
        let after = Layout::grown(&first, now.len(), [now]);
        check(&after);
        assert_eq!(after.places[..first.len()] != before.places[..], moves, "{more} more");
    }
}

#[test]
fn a_circle_is_drawn_without_the_lines_that_close_it() {
    let layout = Layout::of(&[vec![1], vec![0], vec![]]);
    check(&layout);
    assert_eq!((layout.places.len(), layout.lines.len()), (3, 0));
}

#[test]
fn large_graphs_are_laid_out_at_once() {
    let started = std::time::Instant::now();
    let chain: Vec<Vec<usize>> = (0..10_000_usize).map(|node| node.checked_sub(1).into_iter().collect()).collect();
    let dense: Vec<Vec<usize>> = (0..1_000_usize).map(|node| (node.saturating_sub(100)..node).collect()).collect();
    Layout::of(&chain);
    Layout::of(&dense);
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
}
