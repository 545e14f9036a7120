use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::report::graph::tests::graph;

fn drawn(steps: usize, edges: &[(usize, usize)], columns: usize) -> String {
    graph(steps, edges).to_text(columns)
}

#[test]
fn a_fan_in_shares_one_line() {
    let text = drawn(6, &[(0, 4), (1, 4), (2, 4), (3, 4), (4, 5)], 80);
    insta::assert_snapshot!(text);
}

#[test]
fn a_diamond_with_a_shortcut_gets_a_lane() {
    insta::assert_snapshot!(drawn(5, &[(0, 1), (0, 2), (1, 3), (2, 3), (3, 4), (0, 4)], 80));
}

#[test]
fn lines_that_cross_are_kept_apart() {
    insta::assert_snapshot!(drawn(6, &[(0, 3), (0, 4), (1, 4), (1, 5), (2, 3), (2, 5)], 80));
}

#[test]
fn wide_levels_are_folded() {
    let edges: Vec<(usize, usize)> = (1..=40).flat_map(|n| [(0, n), (n, 41)]).collect();
    insta::assert_snapshot!(drawn(42, &edges, 40));
}

#[test]
fn what_nobody_could_follow_is_listed() {
    let edges: Vec<(usize, usize)> = (0..200).flat_map(|n| (1..=4).map(move |d| (n, n + d * d))).collect();
    let text = drawn(217, &edges, 60);
    let head: String = text.lines().take(12).flat_map(|line| [line, "\n"]).collect();
    insta::assert_snapshot!(head);
    assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
}

/// Follows the lines of a picture with the eye and says what they join.
fn read_back(layout: &layout::Layout, text: &str) -> BTreeSet<(String, String)> {
    let grid: Vec<Vec<char>> = text.lines().map(|line| line.chars().collect()).collect();
    let rows: Vec<usize> = (0..grid.len()).filter(|&row| grid[row].iter().any(|c| c.is_ascii_alphanumeric())).collect();
    let cell = |row: usize, column: usize| grid.get(row).and_then(|cells| cells.get(column)).copied().unwrap_or(' ');
    let mut edges = BTreeSet::new();
    for (level, items) in layout.levels.iter().enumerate() {
        for source in items.iter().filter(|item| item.text.is_some()) {
            let mut seen = BTreeSet::new();
            let start = (rows[level] + 1, source.middle(), 'v');
            let leaves = "│┘└┤├┴┼".contains(cell(start.0, start.1));
            let mut open = Vec::from_iter(leaves.then_some(start));
            while let Some((row, column, heading)) = open.pop() {
                if !seen.insert((row, column, heading)) {
                    continue;
                }
                if let Ok(level) = rows.binary_search(&row) {
                    if heading == 'v' {
                        let covers = |item: &&layout::Item| (item.column..item.column + item.width).contains(&column);
                        let item = layout.levels[level].iter().find(covers).expect("a line ends at an item");
                        match &item.text {
                            Some(text) => {
                                edges.insert((source.text.clone().expect("a step"), text.clone()));
                            }
                            None => open.push((row + 1, column, 'v')),
                        }
                    }
                    continue;
                }
                let (up, down, left, right) = match (cell(row, column), heading) {
                    ('│', '<') => (false, false, true, false),
                    ('│', '>') => (false, false, false, true),
                    (c, _) => {
                        ("│┘└┤├┴┼".contains(c), "│┐┌┤├┬┼".contains(c), "─┘┐┤┴┬┼".contains(c), "─└┌├┴┬┼".contains(c))
                    }
                };
                let ways = [(up, -1, 0, '^'), (down, 1, 0, 'v'), (left, 0, -1, '<'), (right, 0, 1, '>')];
                for (_, rows, columns, heading) in ways.into_iter().filter(|(open, ..)| *open) {
                    open.push((row.wrapping_add_signed(rows), column.wrapping_add_signed(columns), heading));
                }
            }
        }
    }
    edges
}

fn name(text: &str) -> String {
    text.trim_start_matches("◆ ").to_owned()
}

fn edges(steps: usize) -> impl Strategy<Value = Vec<(usize, usize)>> {
    proptest::collection::vec((0..steps, 0..steps), 0..2 * steps)
        .prop_map(|pairs| pairs.into_iter().filter(|(a, b)| a != b).map(|(a, b)| (a.min(b), a.max(b))).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_picture_can_be_read_back((steps, edges) in (1_usize..14).prop_flat_map(|steps| (Just(steps), edges(steps)))) {
        let graph = graph(steps, &edges);
        let mut layout = layout::Layout::new(&graph, &graph.level_sizes(), 400);
        layout.arrange(400);
        // Some pictures cannot be drawn; then the plan is listed.
        if let Some(text) = route::render(&layout) {
            let read: BTreeSet<(String, String)> =
                read_back(&layout, &text).into_iter().map(|(from, to)| (name(&from), name(&to))).collect();
            let meant = graph.edges.iter().map(|(from, to)| (format!("s{from}"), format!("s{to}"))).collect();
            prop_assert_eq!(read, meant, "{}", text);
        }
    }

    #[test]
    fn no_line_is_wider_than_the_terminal(
        (steps, edges) in (1_usize..60).prop_flat_map(|steps| (Just(steps), edges(steps))),
        columns in 40_usize..120,
    ) {
        let text = draw(&graph(steps, &edges), columns);
        prop_assert!(text.lines().all(|line| line.chars().count() <= columns), "{}", text);
    }
}

#[test]
fn trees_are_drawn_and_not_listed() {
    let edges: Vec<(usize, usize)> = (1..40).map(|n| ((n - 1) / 3, n)).collect();
    assert!(!drawn(40, &edges, 100).contains("level"));
}
