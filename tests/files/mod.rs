//! Files that tests write, and errors that must name what is wrong with them.

use gradtape::Error;
use std::path::PathBuf;

/// A path for a file or folder of this test run.
pub fn scratch(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// A file with these bytes.
pub fn written(name: &str, bytes: &[u8]) -> PathBuf {
    let path = scratch(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// That this is an error whose text has the fragment.
#[track_caller]
pub fn refused<V>(result: Result<V, Error>, fragment: &str) {
    let text = match result {
        Ok(_) => panic!("accepted; expected an error with {fragment:?}"),
        Err(e) => e.to_string(),
    };
    assert!(text.contains(fragment), "{text:?} does not contain {fragment:?}");
    assert!(!text.ends_with('.'), "{text}");
}
