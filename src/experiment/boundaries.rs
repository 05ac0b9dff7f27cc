//! Boundaries between the regions of a map on which a name is constant.

use std::collections::BTreeMap;

/// A point of the boundary graph: on an edge of the grid, or inside a cell where regions meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Vertex {
    /// Between grid points `(i, j)` and `(i + 1, j)`.
    Across(usize, usize),
    /// Between grid points `(i, j)` and `(i, j + 1)`.
    Up(usize, usize),
    /// Inside the cell with lower left grid point `(i, j)`.
    Inside(usize, usize),
}

/// Lines between the regions of `name` on the grid of whole sizes `xs` and `ys` (ascending,
/// positive). Where more than two regions meet in a cell their boundaries meet in one point.
/// Crossings are closed in on to neighbouring whole sizes, and lie at their geometric mean; where
/// these are far apart (small sizes) a crossing is left out of a line that has better ones, which
/// lie at most one step of the grid away.
pub(super) fn between_regions<N: PartialEq>(
    xs: &[u64],
    ys: &[u64],
    name: &dyn Fn(u64, u64) -> N,
) -> Vec<Vec<(f64, f64)>> {
    let names: Vec<Vec<N>> = xs
        .iter()
        .map(|&x| ys.iter().map(|&y| name(x, y)).collect())
        .collect();
    let mut places: BTreeMap<Vertex, Place> = BTreeMap::new();
    for i in 0..xs.len() {
        for j in 0..ys.len() {
            if i + 1 < xs.len() && names[i][j] != names[i + 1][j] {
                let (x, rough) = crossing(xs[i], xs[i + 1], &|x| name(x, ys[j]) == names[i][j]);
                let point = (x, ys[j] as f64);
                places.insert(Vertex::Across(i, j), Place { point, rough });
            }
            if j + 1 < ys.len() && names[i][j] != names[i][j + 1] {
                let (y, rough) = crossing(ys[j], ys[j + 1], &|y| name(xs[i], y) == names[i][j]);
                let point = (xs[i] as f64, y);
                places.insert(Vertex::Up(i, j), Place { point, rough });
            }
        }
    }
    let mut links: BTreeMap<Vertex, Vec<Vertex>> = BTreeMap::new();
    let mut link = |a: Vertex, b: Vertex| {
        links.entry(a).or_default().push(b);
        links.entry(b).or_default().push(a);
    };
    for i in 0..xs.len().saturating_sub(1) {
        for j in 0..ys.len().saturating_sub(1) {
            let sides = [
                Vertex::Across(i, j),
                Vertex::Up(i + 1, j),
                Vertex::Across(i, j + 1),
                Vertex::Up(i, j),
            ];
            let crossed: Vec<Vertex> = sides
                .into_iter()
                .filter(|side| places.contains_key(side))
                .collect();
            match crossed[..] {
                [] => {}
                [a, b] => link(a, b),
                _ => {
                    let n = crossed.len() as f64;
                    let mean = |f: &dyn Fn((f64, f64)) -> f64| {
                        (crossed.iter().map(|v| f(places[v].point).ln()).sum::<f64>() / n).exp()
                    };
                    let middle = Vertex::Inside(i, j);
                    let point = (mean(&|p| p.0), mean(&|p| p.1));
                    for &v in &crossed {
                        link(v, middle);
                    }
                    let rough = false;
                    places.insert(middle, Place { point, rough });
                }
            }
        }
    }
    chains(links)
        .into_iter()
        .map(|chain| {
            let places: Vec<Place> = chain.iter().map(|v| places[v]).collect();
            let last = places.len() - 1;
            let coarse = places[1..last.max(1)].iter().all(|p| p.rough);
            places
                .iter()
                .enumerate()
                .filter(|(k, p)| coarse || !p.rough || *k == 0 || *k == last)
                .map(|(_, p)| p.point)
                .collect()
        })
        .collect()
}

/// Where a vertex lies, and whether whole sizes tell that to no better than a hundredth.
#[derive(Clone, Copy, Debug)]
struct Place {
    point: (f64, f64),
    rough: bool,
}

/// Where the first of two names ends between two whole sizes, and whether that is rough.
fn crossing(lo: u64, hi: u64, first: &dyn Fn(u64) -> bool) -> (f64, bool) {
    let (mut lo, mut hi) = (lo, hi);
    while hi - lo > 1 {
        let middle = lo + (hi - lo) / 2;
        if first(middle) {
            lo = middle;
        } else {
            hi = middle;
        }
    }
    let (lo, hi) = (lo as f64, hi as f64);
    ((lo * hi).sqrt(), hi > 1.01 * lo)
}

/// The links of a graph as chains: each link once; chains end where other than two links meet.
fn chains(mut links: BTreeMap<Vertex, Vec<Vertex>>) -> Vec<Vec<Vertex>> {
    let ends: Vec<Vertex> = links
        .iter()
        .filter(|(_, to)| to.len() != 2)
        .map(|(v, _)| *v)
        .collect();
    let is_end = |v: &Vertex| ends.binary_search(v).is_ok();
    let take = |links: &mut BTreeMap<Vertex, Vec<Vertex>>, from: Vertex| {
        let to = links.get_mut(&from)?.pop()?;
        if let Some(back) = links.get_mut(&to)
            && let Some(k) = back.iter().position(|v| *v == from)
        {
            back.remove(k);
        }
        Some(to)
    };
    let mut found = Vec::new();
    // Chains between ends first; what is left then are closed curves.
    let all: Vec<Vertex> = links.keys().copied().collect();
    for start in ends.iter().copied().chain(all) {
        while let Some(mut next) = take(&mut links, start) {
            let mut chain = vec![start, next];
            while !is_end(&next)
                && let Some(after) = take(&mut links, next)
            {
                chain.push(after);
                next = after;
            }
            found.push(chain);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: [u64; 5] = [16, 32, 64, 128, 256];

    #[test]
    fn a_power_law_is_one_line_near_the_law() {
        let sizes = SIZES.map(|size| 16 * size);
        let lines = between_regions(&sizes, &sizes, &|x, y| x * y > 1_280_000);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].len() > 4);
        for (x, y) in &lines[0] {
            assert!((x * y / 1.28e6 - 1.0).abs() < 0.002, "{x} {y}");
        }
    }

    #[test]
    fn a_rough_crossing_is_left_out_beside_better_ones() {
        // Along y the law is known to a whole size near 20 only, along x to a thousandth.
        let xs: Vec<u64> = (0..40).map(|i| 1000 + 25 * i).collect();
        let ys: Vec<u64> = (15..=30).collect();
        let lines = between_regions(&xs, &ys, &|x, y| x * y > 30_000);
        assert_eq!(lines.len(), 1);
        let inner = &lines[0][1..lines[0].len() - 1];
        assert!(inner.len() > 8);
        for (x, y) in inner {
            assert!((x * y / 3e4 - 1.0).abs() < 0.002, "{x} {y}");
        }
    }

    #[test]
    fn three_regions_meet_in_one_point() {
        let lines = between_regions(&SIZES, &SIZES, &|x, y| {
            if x < 50 {
                0
            } else if y < 50 {
                1
            } else {
                2
            }
        });
        assert_eq!(lines.len(), 3);
        let near = |p: &(f64, f64)| (p.0 / 50.0).ln().abs() < 0.2 && (p.1 / 50.0).ln().abs() < 0.2;
        for line in &lines {
            assert_eq!(
                line.first()
                    .into_iter()
                    .chain(line.last())
                    .filter(|p| near(p))
                    .count(),
                1,
                "{line:?}"
            );
        }
    }

    #[test]
    fn an_island_is_closed_and_one_region_has_no_line() {
        let lines = between_regions(&SIZES, &SIZES, &|x, y| x == 64 && y == 64);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].first(), lines[0].last());
        assert!(between_regions(&SIZES, &SIZES, &|_, _| 0).is_empty());
    }
}
