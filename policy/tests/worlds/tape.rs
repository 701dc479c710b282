//! Choices, one after the other, from a list of random numbers: what is made of the list shrinks as
//! the list does. Where it ends, and where a number is 0, the choice is the simplest one.

pub struct Tape<'t> {
    numbers: &'t [u16],
    at: usize,
}

impl<'t> Tape<'t> {
    pub fn of(numbers: &'t [u16]) -> Self {
        Self { numbers, at: 0 }
    }

    /// A number below that one.
    pub fn below(&mut self, end: usize) -> usize {
        let number = self.numbers.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        usize::from(number) % end.max(1)
    }

    /// The number of an entity: mostly one of the first, so that policies and questions meet.
    pub fn id(&mut self, end: usize) -> usize {
        if self.chance(55) { self.below(2) } else { self.below(end) }
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) >= 100 - percent
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// Each with that chance, in order.
    pub fn some<T: Clone>(&mut self, of: &[T], percent: usize) -> Vec<T> {
        of.iter().filter(|_| self.chance(percent)).cloned().collect()
    }
}
