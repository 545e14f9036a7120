use std::sync::Arc;

use super::*;
use crate::plan::{Plan, Step};

/// A graph of the steps `s0`, `s1`, ... whose edges lead from lower numbers to higher ones.
pub(crate) fn graph(steps: usize, edges: &[(usize, usize)]) -> Graph {
    let mut plan = Plan::from_iter((0..steps).map(|n| Step::new(format!("s{n}"), "t")));
    for (from, to) in edges {
        let step = Arc::make_mut(&mut plan.steps[*to]);
        step.depends_on.push(format!("s{from}").into());
    }
    Graph::new(&Dag::of(&plan).unwrap())
}

#[test]
fn mermaid_and_dot_of_a_diamond() {
    let graph = graph(4, &[(0, 1), (0, 2), (1, 3), (2, 3)]);
    assert_eq!(
        graph.to_mermaid(),
        r#"flowchart TD
    n0["s0<br/>t"]:::critical
    n1["s1<br/>t"]:::critical
    n2["s2<br/>t"]
    n3["s3<br/>t"]:::critical
    n0 ==> n1
    n0 --> n2
    n1 ==> n3
    n2 --> n3
    classDef critical stroke-width:3px
"#
    );
    assert_eq!(
        graph.to_dot(),
        r#"digraph plan {
    rankdir=LR;
    node [shape=box, fontname="sans-serif"];
    n0 [label="s0\nt", style=bold];
    n1 [label="s1\nt", style=bold];
    n2 [label="s2\nt"];
    n3 [label="s3\nt", style=bold];
    n0 -> n1 [style=bold];
    n0 -> n2;
    n1 -> n3 [style=bold];
    n2 -> n3;
}
"#
    );
}

#[test]
fn hostile_text_stays_inside_its_label() {
    let hostile =
        "end\"]\n    click n0 \"javascript:alert(1)\" <img src=x onerror=1> `- a` #quot; \u{1b}[2J\u{202e}\u{9b}\\ &";
    let mut graph = graph(1, &[]);
    graph.nodes[0].detail = hostile.into();
    graph.nodes[0].label = hostile.into();
    let mermaid = graph.to_mermaid();
    assert_eq!(mermaid.lines().count(), 3, "{mermaid}");
    let label = mermaid.lines().nth(1).and_then(|line| line.trim().strip_prefix("n0[\"")).unwrap_or_default();
    let label = label.strip_suffix("\"]:::critical").unwrap_or_default().replace("<br/>", "");
    let without_entities: String =
        label.split('#').map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit())).collect();
    assert!(
        without_entities.chars().all(|c| c.is_alphanumeric() || matches!(c, ' ' | ';' | ',' | '/' | '-' | '_' | '…')),
        "{label}"
    );
    let dot = graph.to_dot();
    assert_eq!(dot.lines().count(), 5, "{dot}");
    assert!(dot.contains(r#"label="end\"]     click n0 \"javascript"#), "{dot}");
    assert!(!dot.chars().any(|c| c != '\n' && c.is_control()) && !dot.contains('\u{202e}'), "{dot}");
}

#[test]
fn a_large_fan_out_folds_into_twins() {
    let edges: Vec<(usize, usize)> = (1..=500).flat_map(|n| [(0, n), (n, 501)]).collect();
    let mermaid = graph(502, &edges).to_mermaid();
    assert_eq!(mermaid.matches("-->").count() + mermaid.matches("==>").count(), 2, "{mermaid}");
    assert!(mermaid.contains("n1[\"s1<br/>#43;499 more like it\"]:::critical"), "{mermaid}");
}

#[test]
fn a_graph_without_twins_folds_into_blocks_of_levels() {
    let edges: Vec<(usize, usize)> = (0..1_000).flat_map(|n| [(n, n + 1), (n, n + 2)]).collect();
    let mermaid = graph(1_002, &edges).to_mermaid();
    assert!(mermaid.matches("-->").count() + mermaid.matches("==>").count() <= MERMAID_EDGES);
    assert!(mermaid.contains("levels 1 to 36<br/>36 steps"), "{mermaid}");
}

#[test]
fn dot_is_never_folded() {
    let edges: Vec<(usize, usize)> = (1..=500).map(|n| (0, n)).collect();
    assert_eq!(graph(501, &edges).to_dot().matches("->").count(), 500);
}
