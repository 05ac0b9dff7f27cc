//! Resampling of seeds, the unit of replication.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::threshold::SeedDesign;

/// One bootstrap sample of the rows of each level, row by row or seed by seed as the design has
/// them; `with` puts drawn rows into a copy of their level. Levels that lose all their rows, as may
/// be where seeds are drawn for all levels together, drop out.
pub(crate) fn resample_seeds<L, T: Copy>(
    levels: &[L],
    rows: impl Fn(&L) -> &[T],
    seed_of: impl Fn(&T) -> u64,
    with: impl Fn(&L, Vec<T>) -> L,
    design: SeedDesign,
    rng: &mut ChaCha8Rng,
) -> Vec<L> {
    match design {
        SeedDesign::IndependentAcrossLevels => levels
            .iter()
            .map(|level| {
                let here = rows(level);
                let drawn = (0..here.len()).map(|_| here[draw_index(rng, here.len())]);
                with(level, drawn.collect())
            })
            .collect(),
        SeedDesign::SharedAcrossLevels => {
            let mut seeds: Vec<u64> = levels
                .iter()
                .flat_map(|level| rows(level).iter().map(&seed_of))
                .collect();
            seeds.sort_unstable();
            seeds.dedup();
            let drawn: Vec<u64> = (0..seeds.len())
                .map(|_| seeds[draw_index(rng, seeds.len())])
                .collect();
            levels
                .iter()
                .filter_map(|level| {
                    let here = rows(level);
                    let mut kept = Vec::with_capacity(here.len());
                    for &seed in &drawn {
                        kept.extend(here.iter().filter(|row| seed_of(row) == seed));
                    }
                    (!kept.is_empty()).then(|| with(level, kept))
                })
                .collect()
        }
    }
}

/// A uniform index below `n`, drawn as u64 so that it is the same on all machines.
fn draw_index(rng: &mut ChaCha8Rng, n: usize) -> usize {
    rng.random_range(0..n as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn seeds_shared_by_levels_are_drawn_for_all_together() {
        let rows: Vec<(u64, usize)> = (0..6).map(|k| (k as u64, 10 * k)).collect();
        // The second level lacks the last two seeds.
        let levels = [rows.clone(), rows[..4].to_vec()];
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut draw = |design| {
            resample_seeds(
                &levels,
                |l| &l[..],
                |r| r.0,
                |_, rows| rows,
                design,
                &mut rng,
            )
        };
        let (mut apart, mut repeated) = (false, false);
        for _ in 0..20 {
            let drawn = draw(SeedDesign::SharedAcrossLevels);
            assert_eq!(drawn[0].len(), 6);
            let common: Vec<_> = drawn[0].iter().copied().filter(|r| r.0 < 4).collect();
            // A level without rows drops out.
            assert_eq!(drawn.get(1).cloned().unwrap_or_default(), common);
            repeated |= common.windows(2).any(|w| w[0] == w[1]);
            let drawn = draw(SeedDesign::IndependentAcrossLevels);
            assert_eq!([drawn[0].len(), drawn[1].len()], [6, 4]);
            apart |= drawn[1] != drawn[0][..4];
        }
        assert!(apart && repeated);
    }
}
