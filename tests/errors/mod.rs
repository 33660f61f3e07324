//! What a refused input must say.

use gradtape::{ErrorKind, Result};

/// Fails unless `result` is an error of `kind` whose text holds every one of `fragments`.
#[track_caller]
pub fn refused<V>(result: Result<V>, kind: ErrorKind, fragments: &[&str]) {
    let Err(e) = result else { panic!("accepted; expected an error with {fragments:?}") };
    for fragment in fragments {
        assert!(e.to_string().contains(fragment), "{e} does not contain {fragment:?}");
    }
    assert_eq!(e.kind(), kind, "{e}");
}
