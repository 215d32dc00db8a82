//! Reverse-mode automatic differentiation in f64: the slow, obvious arithmetic that tensors are tested against.

use super::number::{Number, Rows, WholeRows};
use std::collections::BTreeMap;
use std::ops::{Add, Div, Mul, Neg, Sub};
use std::rc::Rc;

/// A matrix in f64, \[rows, columns\], together with the operations that produced it, so that any value can be
/// differentiated (reverse-mode automatic differentiation).
#[derive(Clone, Debug)]
pub struct Matrix(Rc<Node>);

#[derive(Debug)]
struct Node {
    rows: usize,
    columns: usize,
    values: Vec<f64>,
    /// The matrices it was computed from.
    parents: Vec<Parent>,
    /// Depth in the graph, larger than that of every parent.
    depth: usize,
    is_variable: bool,
}

#[derive(Debug)]
struct Parent {
    matrix: Matrix,
    /// Nonzero entries of d value / d parent's value as (index here, index in the parent, slope).
    slopes: Vec<(usize, usize, f64)>,
}

impl Matrix {
    /// Creates a matrix that is not differentiated.
    ///
    /// # Panics
    /// If the number of values is not rows · columns.
    pub fn constant(rows: usize, columns: usize, values: Vec<f64>) -> Self {
        assert_eq!(values.len(), rows * columns, "a matrix of {rows} by {columns}");
        Self(Rc::new(Node { rows, columns, values, parents: Vec::new(), depth: 0, is_variable: false }))
    }

    /// Creates a matrix that can be passed to [`Self::gradient`].
    ///
    /// # Panics
    /// If the number of values is not rows · columns.
    pub fn variable(rows: usize, columns: usize, values: Vec<f64>) -> Self {
        assert_eq!(values.len(), rows * columns, "a matrix of {rows} by {columns}");
        Self(Rc::new(Node { rows, columns, values, parents: Vec::new(), depth: 0, is_variable: true }))
    }

    /// Creates a matrix of one column, \[values, 1\].
    pub fn column(values: Vec<f64>) -> Self {
        Self::constant(values.len(), 1, values)
    }

    /// The values in row-major order.
    pub fn values(&self) -> &[f64] {
        &self.0.values
    }

    /// Selects columns of each row; every entry of `ids` must have the same length. Returns \[rows, ids per row\].
    pub fn gather(self, ids: &[Vec<usize>]) -> Self {
        let (columns, chosen) = (self.0.columns, ids.first().map_or(0, Vec::len));
        let places: Vec<usize> =
            ids.iter().enumerate().flat_map(|(row, ids)| ids.iter().map(move |id| row * columns + id)).collect();
        let values = places.iter().map(|&place| self.0.values[place]).collect();
        let slopes = || places.iter().enumerate().map(|(here, &there)| (here, there, 1.0)).collect();
        Self::from_parents(ids.len(), chosen, values, vec![(&self, &slopes)])
    }

    /// d (sum of these values) / d `variable`, in the shape of `variable`.
    pub fn gradient(&self, variable: &Self) -> Vec<f64> {
        // Deepest first: by the time a matrix is visited, everything computed from it has contributed to its gradient.
        let key = |matrix: &Self| (matrix.0.depth, Rc::as_ptr(&matrix.0));
        let mut pending = BTreeMap::from([(key(self), (self.clone(), vec![1.0; self.0.values.len()]))]);
        while let Some((_, (matrix, gradient))) = pending.pop_last() {
            if Rc::ptr_eq(&matrix.0, &variable.0) {
                return gradient;
            }
            for Parent { matrix, slopes } in &matrix.0.parents {
                let none = || (matrix.clone(), vec![0.0; matrix.0.values.len()]);
                let (_, sum) = pending.entry(key(matrix)).or_insert_with(none);
                slopes.iter().for_each(|&(here, there, slope)| sum[there] += slope * gradient[here]);
            }
        }
        vec![0.0; variable.0.values.len()]
    }

    /// `slopes` is only called if the parent depends on a variable.
    #[allow(clippy::type_complexity, reason = "the slopes of a parent are asked for in this one place")]
    fn from_parents(
        rows: usize,
        columns: usize,
        values: Vec<f64>,
        parents: Vec<(&Self, &dyn Fn() -> Vec<(usize, usize, f64)>)>,
    ) -> Self {
        let depth = 1 + parents.iter().map(|(parent, _)| parent.0.depth).max().unwrap_or(0);
        let varies = |parent: &Self| parent.0.is_variable || !parent.0.parents.is_empty();
        let parents = parents.into_iter().filter(|(parent, _)| varies(parent));
        let parents = parents.map(|(parent, slopes)| Parent { matrix: parent.clone(), slopes: slopes() }).collect();
        Self(Rc::new(Node { rows, columns, values, parents, depth, is_variable: false }))
    }

    /// Applies f to each value, with its slope.
    fn map(self, f: impl Fn(f64) -> f64, slope: impl Fn(f64) -> f64) -> Self {
        let values = self.0.values.iter().map(|&x| f(x)).collect();
        let slopes = || self.0.values.iter().enumerate().map(|(i, &x)| (i, i, slope(x))).collect();
        Self::from_parents(self.0.rows, self.0.columns, values, vec![(&self, &slopes)])
    }

    /// Applies f(a, b) to each pair of values, with its slopes along both.
    fn zip(self, other: Self, f: impl Fn(f64, f64) -> f64, slopes: impl Fn(f64, f64) -> [f64; 2]) -> Self {
        let (a, b) = (&*self.0, &*other.0);
        // A single row or column is broadcast to the other's size, even if that is zero.
        let wider = |a: usize, b: usize| if a == 1 { b } else { a };
        let (rows, columns) = (wider(a.rows, b.rows), wider(a.columns, b.columns));
        let fits = |side: &Node| [1, rows].contains(&side.rows) && [1, columns].contains(&side.columns);
        assert!(fits(a) && fits(b), "{} by {} with {} by {}", a.rows, a.columns, b.rows, b.columns);
        let place = |side: &Node, i: usize| {
            let (row, column) = (i / columns, i % columns);
            (if side.rows == 1 { 0 } else { row }) * side.columns + if side.columns == 1 { 0 } else { column }
        };
        let pair = |i: usize| (a.values[place(a, i)], b.values[place(b, i)]);
        let count = rows * columns;
        let values = (0..count).map(|i| f(pair(i).0, pair(i).1)).collect();
        let of = |side: usize, node: &Node| -> Vec<(usize, usize, f64)> {
            let slope = |i: usize| slopes(pair(i).0, pair(i).1)[side];
            (0..count).map(|i| (i, place(node, i), slope(i))).collect()
        };
        let (of_a, of_b) = (|| of(0, a), || of(1, b));
        Self::from_parents(rows, columns, values, vec![(&self, &of_a), (&other, &of_b)])
    }

    /// Sums the values that share a target index in \[rows, columns\], each multiplied by `factor`.
    fn add_up(self, rows: usize, columns: usize, place: impl Fn(usize) -> usize, factor: f64) -> Self {
        let mut values = vec![0.0; rows * columns];
        self.0.values.iter().enumerate().for_each(|(i, x)| values[place(i)] += factor * x);
        let slopes = || (0..self.0.values.len()).map(|i| (place(i), i, factor)).collect();
        Self::from_parents(rows, columns, values, vec![(&self, &slopes)])
    }

    /// Gathers values into \[rows, columns\]; `place` maps each target index to its source.
    fn copies(&self, rows: usize, columns: usize, place: impl Fn(usize) -> usize) -> Self {
        let values = (0..rows * columns).map(|i| self.0.values[place(i)]).collect();
        let slopes = || (0..rows * columns).map(|i| (i, place(i), 1.0)).collect();
        Self::from_parents(rows, columns, values, vec![(self, &slopes)])
    }
}

impl Add for Matrix {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b, |_, _| [1.0, 1.0])
    }
}

impl Sub for Matrix {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b, |_, _| [1.0, -1.0])
    }
}

impl Mul for Matrix {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b, |a, b| [b, a])
    }
}

impl Div for Matrix {
    type Output = Self;

    fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b, |a, b| [1.0 / b, -a / (b * b)])
    }
}

impl Neg for Matrix {
    type Output = Self;

    fn neg(self) -> Self {
        self.map(|x| -x, |_| -1.0)
    }
}

impl Add<f64> for Matrix {
    type Output = Self;

    fn add(self, constant: f64) -> Self {
        self.map(|x| x + constant, |_| 1.0)
    }
}

impl Mul<f64> for Matrix {
    type Output = Self;

    fn mul(self, constant: f64) -> Self {
        self.map(|x| x * constant, |_| constant)
    }
}

impl Number for Matrix {
    fn exp(self) -> Self {
        self.map(f64::exp, f64::exp)
    }

    fn ln(self) -> Self {
        self.map(f64::ln, |x| 1.0 / x)
    }

    fn abs(self) -> Self {
        self.map(f64::abs, |x| if x == 0.0 { 0.0 } else { x.signum() })
    }

    fn weighted_by(self, weight: Self) -> Self {
        let product = |x: f64, weight: f64| if weight > 0.0 { weight * x } else { 0.0 };
        self.zip(weight, product, |x, weight| if weight > 0.0 { [weight, x] } else { [0.0, 0.0] })
    }

    fn log_mix(share: f64, a: Self, b: Self) -> Self {
        let (first, second) = (share, 1.0 - share);
        let sum = move |a: f64, b: f64| first * a.exp() + second * b.exp();
        a.zip(b, |a, b| sum(a, b).ln(), |a, b| [first * a.exp() / sum(a, b), second * b.exp() / sum(a, b)])
    }
}

impl Rows for Matrix {
    fn sum(self) -> Self {
        let (rows, columns) = (self.0.rows, self.0.columns);
        self.add_up(rows, 1, |i| i / columns, 1.0)
    }

    fn log_sum_exp(self) -> Self {
        let (rows, columns) = (self.0.rows, self.0.columns);
        let row = |row: usize| &self.0.values[row * columns..(row + 1) * columns];
        let largest = (0..rows).map(|i| row(i).iter().copied().fold(f64::NEG_INFINITY, f64::max));
        // Rows that are empty or contain only -infinity keep -infinity.
        let shift = Self::column(largest.map(|x| if x.is_finite() { x } else { 0.0 }).collect());
        (self - shift.clone()).exp().sum().ln() + shift
    }

    fn at_least(self, least: f64) -> Self {
        self.map(|x| x.max(least), |x| f64::from(x > least))
    }

    fn beside(self, other: Self) -> Self {
        let (rows, left, right) = (self.0.rows, self.0.columns, other.0.columns);
        let columns = left + right;
        let row = |side: &Self, row: usize| side.0.values[row * side.0.columns..(row + 1) * side.0.columns].to_vec();
        let values = (0..rows).flat_map(|i| [row(&self, i), row(&other, i)].concat()).collect();
        let place = |i: usize, width: usize, start: usize| (i / width * columns + start + i % width, i, 1.0);
        let of_left = || (0..rows * left).map(|i| place(i, left, 0)).collect();
        let of_right = || (0..rows * right).map(|i| place(i, right, left)).collect();
        Self::from_parents(rows, columns, values, vec![(&self, &of_left), (&other, &of_right)])
    }
}

impl WholeRows for Matrix {
    fn mean_of_positions(self) -> Self {
        let (rows, columns) = (self.0.rows, self.0.columns);
        self.add_up(1, columns, |i| i % columns, 1.0 / rows as f64)
    }

    fn sqrt(self) -> Self {
        self.map(f64::sqrt, |x| 0.5 / x.sqrt())
    }

    fn sigmoid(self) -> Self {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        self.map(sigmoid, move |x| sigmoid(x) * (1.0 - sigmoid(x)))
    }

    fn positive_mask(self) -> Self {
        self.map(|x| f64::from(x > 0.0), |_| 0.0)
    }

    fn pairs(self) -> [Self; 2] {
        let (rows, columns) = (self.0.rows, self.0.columns);
        let first = self.copies(rows * columns, columns, |i| i / columns);
        let second = self.copies(rows * columns, columns, |i| i / (columns * columns) * columns + i % columns);
        [first, second]
    }

    fn sum_of_pairs(self) -> Self {
        let columns = self.0.columns;
        let rows = self.0.rows / columns;
        self.add_up(rows, columns, |i| i / columns, 1.0)
    }
}
