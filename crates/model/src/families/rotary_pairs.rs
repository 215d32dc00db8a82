//! The order in which files hold the dimensions of a head.

/// The rotary pairs of a head in files.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct RotaryPairs {
    /// Part of a head's dimensions that turns; they are its first.
    pub(super) part: f64,
    /// Whether a pair is two neighbours, (2i, 2i + 1), instead of one dimension in each half, (i, i + width / 2).
    pub(super) are_neighbours: bool,
}

impl RotaryPairs {
    /// The dimension in files of each dimension of the decoder's heads, whose pairs are (i, i + head_dim / 2) and the
    /// last of which stand still.
    pub(super) fn order(self, head_dim: usize) -> Vec<usize> {
        let width = (head_dim as f64 * self.part) as usize;
        let (half, turning) = (head_dim / 2, width / 2);
        let place = |dimension: usize| {
            let (member, pair) = (dimension / half, dimension % half);
            match (pair < turning, self.are_neighbours) {
                (true, true) => 2 * pair + member,
                (true, false) => member * turning + pair,
                (false, _) => width + member * (half - turning) + (pair - turning),
            }
        };
        (0..head_dim).map(place).collect()
    }
}
