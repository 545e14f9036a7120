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
        let growth = Growth { first: first.clone(), now: graph.into_iter().map(Some).collect() };
        let after = Layout::grown(&growth);
        check(&after);
        prop_assert_eq!(&after.places[..first.len()], &before.places[..]);
    }

    #[test]
    fn what_is_left_out_leaves_its_place_free(graph in graphs(), out in any::<prop::sample::Index>()) {
        let out = out.index(graph.len());
        let before = Layout::of(&graph);
        let mut now: Vec<Option<Vec<usize>>> = graph.iter().cloned().map(Some).collect();
        let is_last = !graph.iter().flatten().any(|earlier| *earlier == out);
        prop_assume!(is_last);
        now[out] = None;
        let mut after = Layout::grown(&Growth { first: graph, now });
        check(&after);
        after.places[out] = before.places[out];
        prop_assert_eq!(after.places, before.places);
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
