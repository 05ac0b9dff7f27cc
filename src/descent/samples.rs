//! Training samples in the order of their labels, stored or drawn again when they are read.

use std::cell::RefCell;
use std::ops::Range;

use crate::task::{Batch, Reader, Sequences, Stream, by_label};

/// A finite training set.
#[derive(Debug, Clone, Copy)]
pub enum Data<'a> {
    /// Stored.
    Batch(&'a Batch),
    /// Drawn when it is read: a large one is drawn again at each pass and takes 8 bytes a sample.
    /// The outcome is that of the batch to the last bit.
    Stream(&'a Stream<'a>),
}

/// Samples ordered by label: label `j` owns `order[start[j]..start[j + 1]]`. A *place* is an index
/// into `order`.
pub(super) struct Grouped<'a> {
    source: Source<'a>,
    len: usize,
    order: Vec<u32>,
    start: Vec<u32>,
}

enum Source<'a> {
    /// In the order of the batch.
    Batch(&'a Batch),
    /// In the order of the labels, see [`Sequences`].
    Sorted(Vec<u32>),
    /// Drawn again at each pass.
    Drawn(Box<RefCell<Reader<'a>>>),
}

/// Largest training set that is kept in memory, in bytes. A larger one is drawn again at each pass,
/// and memory grows by 8 bytes a sample.
const STORED_BYTES: usize = 32 << 20;

impl<'a> Grouped<'a> {
    pub(super) fn new(data: Data<'a>, len: usize, vocab: usize) -> Self {
        let (source, (order, start)) = match data {
            Data::Batch(batch) => (Source::Batch(batch), batch.by_label(vocab)),
            Data::Stream(stream) => {
                let (order, start) = by_label(&stream.labels(), vocab);
                let reader = stream.reader();
                let source = if 4 * order.len() * (len + 1) <= STORED_BYTES {
                    Source::Sorted(reader.collect(&order))
                } else {
                    Source::Drawn(Box::new(RefCell::new(reader)))
                };
                (source, (order, start))
            }
        };
        Grouped {
            source,
            len,
            order,
            start,
        }
    }

    /// Number of samples `N`.
    pub(super) fn count(&self) -> usize {
        self.order.len()
    }

    /// Where each label starts in the order of the labels, and the end; gives the rest back.
    pub(super) fn into_start(self) -> Vec<u32> {
        self.start
    }

    /// Places of label `j`.
    pub(super) fn places(&self, j: usize) -> Range<usize> {
        self.places_of(j..j + 1)
    }

    /// Places of a range of labels.
    pub(super) fn places_of(&self, labels: Range<usize>) -> Range<usize> {
        self.start[labels.start] as usize..self.start[labels.end] as usize
    }

    /// Label of each place of a range, whose first is at least `from`.
    pub(super) fn labels(&self, places: Range<usize>, from: usize) -> impl Iterator<Item = usize> {
        let mut j = from;
        places.map(move |p| {
            while self.start[j + 1] as usize <= p {
                j += 1;
            }
            j
        })
    }

    /// Shows the samples of label `j` in order: tokens and informative position.
    pub(super) fn visit(&self, j: usize, see: impl FnMut(&[u32], usize)) {
        self.visit_places(self.places(j), see);
    }

    /// The same for any places.
    pub(super) fn visit_places(&self, places: Range<usize>, mut see: impl FnMut(&[u32], usize)) {
        let order = &self.order[places.clone()];
        match &self.source {
            Source::Batch(batch) => {
                for &n in order {
                    let n = n as usize;
                    see(batch.sequence(n), batch.position[n] as usize);
                }
            }
            Source::Sorted(words) => {
                let width = self.len + 1;
                let words = &words[places.start * width..places.end * width];
                for (tokens, position) in Sequences::new(words, self.len).iter() {
                    see(tokens, position);
                }
            }
            Source::Drawn(reader) => {
                let mut reader = reader.borrow_mut();
                for piece in order.chunks(reader.piece()) {
                    for (tokens, position) in reader.read(piece).iter() {
                        see(tokens, position);
                    }
                }
            }
        }
    }
}
