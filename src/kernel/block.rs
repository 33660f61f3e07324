//! The instructions of a fused loop over one block. They are looked through once, when they are
//! made, so that a run over a few elements finds its arguments in a table of pointers.

use super::map::{Instruction, Loop, MAX_INPUTS, MAX_OUTPUTS, MAX_REGISTERS, Slot, Target};
use super::reduce::sum_block;
use crate::scalar::Scalar;
use std::marker::PhantomData;
use std::mem::MaybeUninit;

/// The most that a block reads and writes.
const MOST: usize = MAX_INPUTS + MAX_OUTPUTS + MAX_REGISTERS;

/// Instructions that read inputs and what was written before, and write elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct Steps<T> {
    steps: Vec<Step<T>>,
    n_inputs: usize,
    /// Outputs and registers.
    n_written: usize,
    n_sums: usize,
}

/// An instruction whose slots are numbers of places: of inputs, then outputs, then registers.
#[derive(Clone, Copy, Debug)]
struct Step<T> {
    run: Loop<T>,
    args: [u8; 3],
    /// Of a sum, its number.
    to: u8,
}

impl<T: Scalar> Steps<T> {
    /// # Panics
    /// A slot that there is not, or one that is read while it is written: a fault of the planner.
    pub(crate) fn new(
        code: &[Instruction<T>],
        n_inputs: usize,
        (n_outputs, n_registers): (usize, usize),
        n_sums: usize,
    ) -> Self {
        assert!(n_inputs <= MAX_INPUTS && n_outputs <= MAX_OUTPUTS);
        assert!(n_registers <= MAX_REGISTERS);
        let numbered = |i: u8, n: usize, first: usize| {
            assert!(usize::from(i) < n, "slot {i} of {n}");
            (first + usize::from(i)) as u8
        };
        let output = |o| numbered(o, n_outputs, n_inputs);
        let register = |r| numbered(r, n_registers, n_inputs + n_outputs);
        let step = |step: &Instruction<T>| {
            let n_args = match step.run {
                Loop::One(_) | Loop::Sum => 1,
                Loop::Two(_) => 2,
                Loop::Three(_) => 3,
            };
            let mut args = [0; 3];
            for (arg, &slot) in args.iter_mut().zip(&step.args[..n_args]) {
                *arg = match slot {
                    Slot::Input(i) => numbered(i, n_inputs, 0),
                    Slot::Output(o) => output(o),
                    Slot::Register(r) => register(r),
                };
            }
            let to = match (step.to, step.run) {
                (Target::Sum(sum), Loop::Sum) => numbered(sum, n_sums, 0),
                (Target::Output(o), Loop::One(_) | Loop::Two(_) | Loop::Three(_)) => output(o),
                (Target::Register(r), Loop::One(_) | Loop::Two(_) | Loop::Three(_)) => register(r),
                (to, run) => panic!("{run:?} to {to:?}"),
            };
            let is_beside = matches!(step.run, Loop::Sum) || !args[..n_args].contains(&to);
            assert!(is_beside, "an instruction reads what it writes");
            Step { run: step.run, args, to }
        };
        let steps = code.iter().map(step).collect();
        Steps { steps, n_inputs, n_written: n_outputs + n_registers, n_sums }
    }

    /// The number of instructions.
    pub(crate) fn len(&self) -> usize {
        self.steps.len()
    }

    /// Runs all instructions over a block.
    ///
    /// # Panics
    /// More or fewer places, or sums, than the instructions know.
    #[inline(always)]
    pub(crate) fn run(&self, places: &mut Places<'_, T>, sums: &mut [T]) {
        assert!((places.n_inputs, places.n) == (self.n_inputs, self.n_inputs + self.n_written));
        assert!(sums.len() == self.n_sums);
        let len = places.len;
        // SAFETY: `Steps::new` has seen that a slot's number is below the count of places, which
        // was compared, so this one has been set.
        let at = |i: u8| unsafe { places.at[i as usize].assume_init() };
        // SAFETY: it points to a block of `len` elements, borrowed while `places` is, that no
        // other place overlaps.
        let arg = |i: u8| unsafe { std::slice::from_raw_parts(at(i), len) };
        // SAFETY: as for `arg`; it is no input, as those have lower numbers, and none of the
        // arguments, as `Steps::new` has seen.
        let to = |i: u8| unsafe { std::slice::from_raw_parts_mut(at(i), len) };
        for step in &self.steps {
            let [a, b, c] = step.args;
            match step.run {
                Loop::One(f) => f(arg(a), to(step.to)),
                Loop::Two(f) => f(arg(a), arg(b), to(step.to)),
                Loop::Three(f) => f(arg(a), arg(b), arg(c), to(step.to)),
                Loop::Sum => sums[step.to as usize] = sum_block(arg(a)),
            }
        }
    }
}

/// What the instructions of a block read, then what they write: slices of as many elements each.
pub(crate) struct Places<'a, T> {
    at: [MaybeUninit<*mut T>; MOST],
    /// The elements of each.
    len: usize,
    n_inputs: usize,
    n: usize,
    of: PhantomData<&'a mut [T]>,
}

impl<'a, T> Places<'a, T> {
    /// For slices of so many elements.
    #[inline(always)]
    pub(crate) fn new(len: usize) -> Self {
        Places { at: [MaybeUninit::uninit(); MOST], len, n_inputs: 0, n: 0, of: PhantomData }
    }

    /// The next input. They all come before what is written.
    #[inline(always)]
    pub(crate) fn read(&mut self, x: &'a [T]) {
        assert!(x.len() == self.len && self.n == self.n_inputs);
        self.at[self.n].write(x.as_ptr().cast_mut());
        self.n += 1;
        self.n_inputs = self.n;
    }

    /// The next output or register.
    #[inline(always)]
    pub(crate) fn write(&mut self, y: &'a mut [T]) {
        assert!(y.len() == self.len);
        self.at[self.n].write(y.as_mut_ptr());
        self.n += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::map::each2;

    fn step(args: [Slot; 3], to: Target) -> Instruction<f64> {
        let add = |a: &[f64], b: &[f64], y: &mut [f64]| each2(|a, b| a + b, a, b, y);
        Instruction { run: Loop::Two(add), args, to }
    }

    const X: Slot = Slot::Input(0);
    const R: Slot = Slot::Register(0);

    #[test]
    fn every_place_is_written_and_read() {
        let code = [
            step([X, Slot::Input(1), R], Target::Register(0)),
            step([R, X, R], Target::Output(0)),
            step([Slot::Output(0), R, X], Target::Register(1)),
            Instruction { run: Loop::Sum, args: [Slot::Register(1), X, X], to: Target::Sum(0) },
        ];
        let steps = Steps::new(&code, 2, (1, 2), 1);
        assert_eq!(steps.len(), 4);
        let (mut y, mut r, mut s, mut sum) = ([0.0; 3], [0.0; 3], [0.0; 3], [0.0]);
        let mut places = Places::new(3);
        places.read(&[1.0, 2.0, 3.0]);
        places.read(&[10.0, 20.0, 30.0]);
        places.write(&mut y);
        places.write(&mut r);
        places.write(&mut s);
        steps.run(&mut places, &mut sum);
        assert_eq!((y, r), ([12.0, 24.0, 36.0], [11.0, 22.0, 33.0]));
        assert_eq!((s, sum), ([23.0, 46.0, 69.0], [138.0]));
    }

    #[test]
    #[should_panic(expected = "reads what it writes")]
    fn no_instruction_reads_what_it_writes() {
        Steps::new(&[step([X, R, X], Target::Register(0))], 1, (0, 1), 0);
    }

    #[test]
    #[should_panic(expected = "slot 1 of 1")]
    fn a_slot_that_there_is_not_is_refused() {
        Steps::new(&[step([X, Slot::Input(1), X], Target::Register(0))], 1, (0, 1), 0);
    }

    #[test]
    #[should_panic(expected = "Sum to Register(0)")]
    fn a_sum_goes_to_a_sum() {
        let (run, args) = (Loop::<f64>::Sum, [X; 3]);
        let sum = Instruction { run, args, to: Target::Register(0) };
        Steps::new(&[sum], 1, (0, 1), 0);
    }

    #[test]
    #[should_panic(expected = "places.n_inputs")]
    fn too_few_places_are_refused() {
        let steps = Steps::new(&[step([X, X, X], Target::Register(0))], 1, (0, 1), 0);
        let mut places = Places::new(3);
        places.read(&[1.0, 2.0, 3.0]);
        steps.run(&mut places, &mut []);
    }

    #[test]
    #[should_panic(expected = "x.len() == self.len")]
    fn places_have_one_length() {
        Places::new(3).read(&[1.0; 2]);
    }
}
