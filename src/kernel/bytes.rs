//! Numbers as the bytes they are in memory, for what moves bytes between processes of one kind.

use crate::scalar::Scalar;

/// The bytes of these numbers.
pub(crate) fn bytes<T: Scalar>(x: &[T]) -> &[u8] {
    // SAFETY: a scalar is f32 or f64 (the trait is sealed): no padding, and any byte is a u8, whose
    // alignment is 1; the length in bytes is that of the slice, which stays borrowed.
    unsafe { std::slice::from_raw_parts(x.as_ptr().cast(), size_of_val(x)) }
}

/// The bytes of these numbers, to be written.
pub(crate) fn bytes_mut<T: Scalar>(x: &mut [T]) -> &mut [u8] {
    // SAFETY: as in `bytes`; and any bytes make an f32 or f64.
    unsafe { std::slice::from_raw_parts_mut(x.as_mut_ptr().cast(), size_of_val(x)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_each_number() {
        let x = [1.5f64, -0.0, f64::NAN];
        let safe: Vec<u8> = x.iter().flat_map(|x| x.to_ne_bytes()).collect();
        assert_eq!(bytes(&x), safe);
        let mut y = [0.0f64; 3];
        bytes_mut(&mut y).copy_from_slice(&safe);
        assert!(x.iter().zip(y).all(|(x, y)| x.to_bits() == y.to_bits()));
        assert!(bytes::<f32>(&[]).is_empty() && bytes_mut::<f32>(&mut []).is_empty());
    }
}
