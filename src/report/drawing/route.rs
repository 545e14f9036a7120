//! Draws the lines between two levels and writes everything down.
//!
//! A line leaves its steps downwards, runs along one row (its track) and goes down to the steps it leads to. No two
//! lines share a stretch; where they cross, the vertical one is drawn through.

use super::layout::{Item, Layout, Line};

/// More rows between two levels than this cannot be followed by eye.
const MOST_TRACKS: usize = 12;

const UP: u8 = 1;
const DOWN: u8 = 2;
const LEFT: u8 = 4;
const RIGHT: u8 = 8;

/// The picture; none if some lines could not be kept apart.
pub(super) fn render(layout: &Layout) -> Option<String> {
    let mut text = String::new();
    for (level, items) in layout.levels.iter().enumerate() {
        push_row(&mut text, level_row(items));
        let Some(below) = layout.levels.get(level + 1) else { break };
        for row in channel(items, below, &layout.lines[level])? {
            push_row(&mut text, row);
        }
    }
    Some(text)
}

fn push_row(text: &mut String, row: Vec<char>) {
    let row: String = row.into_iter().collect();
    text.push_str(row.trim_end());
    text.push('\n');
}

fn level_row(items: &[Item]) -> Vec<char> {
    let mut row = Vec::new();
    for item in items {
        let end = item.column + item.width;
        if row.len() < end {
            row.resize(end, ' ');
        }
        let label = item.text.as_deref().unwrap_or("│");
        // A label that is narrower than its lines need stands in the middle of them.
        let start = item.column + (item.width - label.chars().count()) / 2;
        row[start..].iter_mut().zip(label.chars()).for_each(|(cell, c)| *cell = c);
    }
    row
}

/// A line with the columns where it leaves and arrives.
#[derive(Debug, Default)]
struct Route {
    out: Vec<usize>,
    into: Vec<usize>,
}

impl Route {
    fn ends(&self) -> impl Iterator<Item = usize> {
        self.out.iter().chain(&self.into).copied()
    }

    fn left(&self) -> usize {
        self.ends().min().unwrap_or_default()
    }

    fn right(&self) -> usize {
        self.ends().max().unwrap_or_default()
    }

    fn is_straight(&self) -> bool {
        self.left() == self.right()
    }
}

/// The rows between two levels.
fn channel(above: &[Item], below: &[Item], lines: &[Line]) -> Option<Vec<Vec<char>>> {
    let mut routes: Vec<Route> = lines
        .iter()
        .map(|line| Route { out: line.from.iter().map(|&item| above[item].middle()).collect(), into: Vec::new() })
        .collect();
    for item in below {
        enter(item, &mut routes);
    }
    let tracks = assign_tracks(&routes)?;
    let height = tracks.iter().flatten().map(|track| track + 1).max().unwrap_or(1);
    let width = routes.iter().map(Route::right).max().unwrap_or_default() + 1;
    let mut canvas = Canvas { cells: vec![vec![None; width]; height] };
    for (number, (route, track)) in routes.iter().zip(tracks).enumerate() {
        canvas.draw(number, route, track)?;
    }
    Some(canvas.rows())
}

/// Chooses the columns in which lines enter an item: in the order of where they come from, around its middle, and if
/// possible not below the start of another line.
fn enter(item: &Item, routes: &mut [Route]) {
    let mut incoming = item.incoming.clone();
    incoming.sort_by_key(|&line| routes[line].out.iter().sum::<usize>() / routes[line].out.len().max(1));
    let first = (item.middle() + 1).saturating_sub(incoming.len());
    let mut next = item.column;
    for (index, &line) in incoming.iter().enumerate() {
        let later = incoming.len() - 1 - index;
        let last = item.column + item.width - 1 - 2 * later;
        let taken = |column: usize| {
            routes.iter().enumerate().any(|(other, route)| other != line && route.out.contains(&column))
        };
        let wanted = (first + 2 * index).clamp(next, last);
        let free = (next..=last).filter(|&column| !taken(column)).min_by_key(|column| column.abs_diff(wanted));
        let column = free.unwrap_or(wanted);
        routes[line].into.push(column);
        next = column + 2;
    }
}

/// Gives every line that is not straight a row. A line that starts above the end of another must turn before that one
/// does.
fn assign_tracks(routes: &[Route]) -> Option<Vec<Option<usize>>> {
    let mut tracks: Vec<Option<usize>> = vec![None; routes.len()];
    let mut open: Vec<usize> = (0..routes.len()).filter(|&line| !routes[line].is_straight()).collect();
    open.sort_by_key(|&line| (routes[line].left(), routes[line].right()));
    let precedes = |first: usize, then: usize| {
        first != then && routes[first].out.iter().any(|column| routes[then].into.contains(column))
    };
    let mut occupied: Vec<Vec<(usize, usize)>> = Vec::new();
    while !open.is_empty() {
        let at = (0..open.len()).find(|&at| !open.iter().any(|&other| precedes(other, open[at])))?;
        let line = open.remove(at);
        let earliest = (0..routes.len()).filter(|&other| precedes(other, line)).filter_map(|other| tracks[other]).max();
        let (left, right) = (routes[line].left(), routes[line].right());
        let is_free = |track: &[(usize, usize)]| track.iter().all(|&(l, r)| right + 1 < l || r + 1 < left);
        let mut track = earliest.map_or(0, |track| track + 1);
        while occupied.get(track).is_some_and(|taken| !is_free(taken)) {
            track += 1;
        }
        if track >= MOST_TRACKS {
            return None;
        }
        if occupied.len() <= track {
            occupied.resize(track + 1, Vec::new());
        }
        occupied[track].push((left, right));
        tracks[line] = Some(track);
    }
    Some(tracks)
}

/// What a cell shows: the line it belongs to and the sides it leads to, or two lines that cross.
#[derive(Clone, Copy, Debug)]
enum Cell {
    Part { line: usize, sides: u8 },
    Crossing,
}

struct Canvas {
    cells: Vec<Vec<Option<Cell>>>,
}

impl Canvas {
    fn draw(&mut self, line: usize, route: &Route, track: Option<usize>) -> Option<()> {
        let height = self.cells.len();
        let Some(track) = track else {
            return (0..height).try_for_each(|row| self.add(line, row, route.left(), UP | DOWN));
        };
        let (left, right) = (route.left(), route.right());
        for column in left..=right {
            let mut sides = if column > left { LEFT } else { 0 };
            sides |= if column < right { RIGHT } else { 0 };
            sides |= if route.out.contains(&column) { UP } else { 0 };
            sides |= if route.into.contains(&column) { DOWN } else { 0 };
            self.add(line, track, column, sides)?;
        }
        for &column in &route.out {
            (0..track).try_for_each(|row| self.add(line, row, column, UP | DOWN))?;
        }
        for &column in &route.into {
            (track + 1..height).try_for_each(|row| self.add(line, row, column, UP | DOWN))?;
        }
        Some(())
    }

    /// None if two lines would run into each other.
    fn add(&mut self, line: usize, row: usize, column: usize, sides: u8) -> Option<()> {
        let cell = &mut self.cells[row][column];
        *cell = Some(match *cell {
            None => Cell::Part { line, sides },
            Some(Cell::Part { line: other, sides: others })
                if other != line && sides ^ others == (UP | DOWN | LEFT | RIGHT) && is_through(sides) =>
            {
                Cell::Crossing
            }
            Some(_) => return None,
        });
        Some(())
    }

    fn rows(self) -> Vec<Vec<char>> {
        let row = |cells: Vec<Option<Cell>>| cells.into_iter().map(glyph).collect();
        self.cells.into_iter().map(row).collect()
    }
}

fn is_through(sides: u8) -> bool {
    sides == UP | DOWN || sides == LEFT | RIGHT
}

fn glyph(cell: Option<Cell>) -> char {
    const GLYPHS: [char; 16] = [' ', '╵', '╷', '│', '╴', '┘', '┐', '┤', '╶', '└', '┌', '├', '─', '┴', '┬', '┼'];
    match cell {
        None => ' ',
        Some(Cell::Crossing) => '│',
        Some(Cell::Part { sides, .. }) => GLYPHS[usize::from(sides & 15)],
    }
}
