//! Figures: data in, files out; nothing is computed here.
