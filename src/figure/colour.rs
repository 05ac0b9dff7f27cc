//! Colours that survive colour blindness and grey printing.

use serde::{Deserialize, Serialize};

/// An sRGB colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rgb(
    /// Red.
    pub u8,
    /// Green.
    pub u8,
    /// Blue.
    pub u8,
);

impl Rgb {
    pub(super) const WHITE: Rgb = Rgb(255, 255, 255);
    pub(super) const INK: Rgb = Rgb(0x22, 0x22, 0x22);
    pub(super) const FRAME: Rgb = Rgb(0x55, 0x55, 0x55);
    pub(super) const NEUTRAL: Rgb = Rgb(0x4A, 0x4A, 0x4A);
    pub(super) const GRID: Rgb = Rgb(0xE4, 0xE4, 0xE4);
    pub(super) const MISSING: Rgb = Rgb(0xEC, 0xEC, 0xEC);
    pub(super) const HATCH: Rgb = Rgb(0x9A, 0x9A, 0x9A);

    /// Relative luminance, 0 (black) to 1 (white).
    #[must_use]
    pub fn luminance(self) -> f64 {
        let linear = |c: u8| {
            let c = f64::from(c) / 255.0;
            if c <= 0.04045 {
                c / 12.92
            } else {
                ((c + 0.055) / 1.055).powf(2.4)
            }
        };
        0.2126 * linear(self.0) + 0.7152 * linear(self.1) + 0.0722 * linear(self.2)
    }

    /// Lightness L* of CIE 1976, 0 to 100: the grey a reader sees in print.
    #[must_use]
    pub fn lightness(self) -> f64 {
        let y = self.luminance();
        if y > 216.0 / 24389.0 {
            116.0 * y.cbrt() - 16.0
        } else {
            y * 24389.0 / 27.0
        }
    }

    /// Black or white, whichever reads better on this colour.
    pub(super) fn contrasting(self) -> Rgb {
        let y = self.luminance();
        if (1.05) / (y + 0.05) >= (y + 0.05) / 0.05 {
            Rgb::WHITE
        } else {
            Rgb(0, 0, 0)
        }
    }
}

/// Colours of the style slots: blue, orange, red, green, sky, black. Any two
/// differ by at least ten units of lightness.
pub const PALETTE: [Rgb; 6] = [
    Rgb(0x00, 0x44, 0x88),
    Rgb(0xE0, 0x82, 0x14),
    Rgb(0xB0, 0x30, 0x4F),
    Rgb(0x00, 0x8B, 0x72),
    Rgb(0x7C, 0xC4, 0xEE),
    Rgb(0x1A, 0x1A, 0x1A),
];

/// Sequential, perceptually uniform colour maps, dark to light.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColourMap {
    /// Dark violet through green to yellow.
    #[default]
    Viridis,
    /// Dark blue through grey to yellow; the same to readers with and without
    /// red-green colour blindness.
    Cividis,
}

const VIRIDIS: [Rgb; 10] = [
    Rgb(0x44, 0x01, 0x54),
    Rgb(0x48, 0x28, 0x78),
    Rgb(0x3E, 0x4A, 0x89),
    Rgb(0x31, 0x68, 0x8E),
    Rgb(0x26, 0x82, 0x8E),
    Rgb(0x1F, 0x9E, 0x89),
    Rgb(0x35, 0xB7, 0x79),
    Rgb(0x6D, 0xCD, 0x59),
    Rgb(0xB4, 0xDE, 0x2C),
    Rgb(0xFD, 0xE7, 0x25),
];

const CIVIDIS: [Rgb; 10] = [
    Rgb(0x00, 0x20, 0x4D),
    Rgb(0x00, 0x33, 0x6F),
    Rgb(0x39, 0x48, 0x6B),
    Rgb(0x57, 0x5C, 0x6D),
    Rgb(0x70, 0x71, 0x73),
    Rgb(0x8A, 0x87, 0x79),
    Rgb(0xA6, 0x9D, 0x75),
    Rgb(0xC4, 0xB5, 0x6C),
    Rgb(0xE4, 0xCF, 0x5B),
    Rgb(0xFF, 0xEA, 0x46),
];

impl ColourMap {
    /// The colour at a fraction of the range; clamped to 0 to 1.
    #[must_use]
    pub fn at(self, fraction: f64) -> Rgb {
        let table = match self {
            ColourMap::Viridis => &VIRIDIS,
            ColourMap::Cividis => &CIVIDIS,
        };
        let fraction = if fraction.is_finite() {
            fraction.clamp(0.0, 1.0)
        } else {
            0.0
        };
        let position = fraction * (table.len() - 1) as f64;
        let i = (position as usize).min(table.len() - 2);
        let t = position - i as f64;
        let mix = |a: u8, b: u8| (f64::from(a) + t * (f64::from(b) - f64::from(a))).round() as u8;
        let (a, b) = (table[i], table[i + 1]);
        Rgb(mix(a.0, b.0), mix(a.1, b.1), mix(a.2, b.2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lightness_of_known_greys() {
        assert_eq!(Rgb(0, 0, 0).lightness(), 0.0);
        assert!((Rgb::WHITE.lightness() - 100.0).abs() < 1e-3);
        // CIE: the sRGB grey 119 is L* 50.03.
        assert!((Rgb(119, 119, 119).lightness() - 50.03).abs() < 0.05);
    }

    #[test]
    fn palette_is_legible_in_grey() {
        for (i, a) in PALETTE.iter().enumerate() {
            assert!(a.lightness() < 80.0, "slot {i} is too pale on white");
            for b in &PALETTE[i + 1..] {
                let gap = (a.lightness() - b.lightness()).abs();
                assert!(gap >= 10.0, "{a:?} and {b:?} differ by {gap}");
            }
        }
    }

    #[test]
    fn colour_maps_rise_evenly_in_lightness() {
        for map in [ColourMap::Viridis, ColourMap::Cividis] {
            let l: Vec<f64> = (0..=255)
                .map(|i| map.at(f64::from(i) / 255.0).lightness())
                .collect();
            // Eight-bit rounding may stall a step, but never turn it back visibly.
            for w in l.windows(2) {
                assert!(w[1] > w[0] - 0.05, "{map:?}: {} then {}", w[0], w[1]);
            }
            // Over a tenth of the range, every step is within a third of the mean.
            let mean = (l[255] - l[0]) / 10.0;
            for i in 0..10 {
                let step = l[(i + 1) * 255 / 10] - l[i * 255 / 10];
                assert!(
                    (step / mean - 1.0).abs() < 1.0 / 3.0,
                    "{map:?}: {step} of {mean}"
                );
            }
        }
    }

    #[test]
    fn text_on_cells_has_contrast() {
        for i in 0..=100 {
            let cell = ColourMap::Viridis.at(f64::from(i) / 100.0);
            let (a, b) = (cell.luminance(), cell.contrasting().luminance());
            assert!((a.max(b) + 0.05) / (a.min(b) + 0.05) > 4.5);
        }
    }
}
