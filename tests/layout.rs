//! The tree itself: arrows between folders go one way, `unsafe` stays in `kernel/`, every file says
//! what it is, and the dependencies stay few.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The order in which data pass through. A module uses those before it, never those after it.
const ORDER: &[&str] = &[
    "error",
    "file",
    "scalar",
    "shape",
    "tensor",
    "kernel",
    "tape",
    "grad",
    "plan",
    "dist",
    "run",
    "optim",
    "check",
    "nn",
    "io",
    "data",
    "closure",
    "estimators",
    "instances",
];

/// Modules at the side, on the public API: they name the crate's re-exports, not its inside.
const AT_THE_SIDE: &[&str] = &["nn", "data", "io", "closure", "estimators"];

#[test]
fn arrows_between_folders_go_one_way() {
    let mut wrong = Vec::new();
    for file in sources(&root().join("src")) {
        let from = module(&file);
        let Some(rank) = ORDER.iter().position(|m| *m == from) else {
            assert!(from == "lib", "{}: {from} is not in the order", file.display());
            continue;
        };
        // Unit tests may use everything.
        let text = read(&file);
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        if file.to_string_lossy().contains("tests") {
            continue;
        }
        for (line, code) in
            text.lines().enumerate().filter(|(_, l)| !l.trim_start().starts_with("//"))
        {
            for (at, _) in code.match_indices("crate::") {
                let to: String = code[at + 7..]
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                let later = ORDER.iter().position(|m| *m == to).is_some_and(|r| r > rank);
                if later {
                    wrong.push(format!("{}:{}: {from} uses {to}", file.display(), line + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "arrows against the order {ORDER:?}:\n{}", wrong.join("\n"));
}

#[test]
fn modules_at_the_side_stand_on_the_public_api() {
    let inside = ["crate::kernel", "crate::plan::", "crate::run::", "crate::tape::graph"];
    for file in
        sources(&root().join("src")).iter().filter(|f| AT_THE_SIDE.contains(&module(f).as_str()))
    {
        let text = read(file);
        for path in inside {
            assert!(!text.contains(path), "{} reaches into {path}", file.display());
        }
    }
}

#[test]
fn unsafe_stays_in_kernel_and_gives_its_reason() {
    for file in sources(&root().join("src")) {
        let text = read(&file);
        let lines: Vec<&str> = text.lines().collect();
        for (n, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let is_unsafe =
                code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe");
            if !is_unsafe {
                continue;
            }
            assert_eq!(module(&file), "kernel", "{}:{}: unsafe", file.display(), n + 1);
            // A declaration promises nothing; a block and an impl do.
            if !code.contains("unsafe {") && !code.contains("unsafe impl") {
                continue;
            }
            // Its reason stands in the comment right above, past attributes and the rest of a call.
            let reason = lines[n.saturating_sub(12)..n].iter().any(|l| {
                let l = l.trim_start();
                l.contains("SAFETY:") || l.contains("# Safety")
            });
            assert!(reason, "{}:{}: no `SAFETY:` above", file.display(), n + 1);
        }
    }
}

#[test]
fn every_file_says_what_it_is() {
    for folder in ["src", "tests", "examples", "benches"] {
        for file in sources(&root().join(folder)) {
            assert!(read(&file).starts_with("//! "), "{} does not open with `//!`", file.display());
        }
    }
}

#[test]
fn modules_that_exist_are_in_the_order() {
    let lib = read(&root().join("src/lib.rs"));
    let declared: BTreeSet<&str> = lib
        .lines()
        .filter_map(|l| l.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'))
        .collect();
    assert_eq!(declared, ORDER.iter().copied().collect(), "lib.rs declares what ORDER lists");
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The module of `src/` that a file belongs to.
fn module(file: &Path) -> String {
    let inside = file.strip_prefix(root().join("src")).expect("a file of src/");
    let first =
        inside.components().next().expect("a path").as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_string()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files = Vec::new();
    for path in entries.map(|e| e.expect("an entry").path()) {
        match path.is_dir() {
            true if path.ends_with("target") => {}
            true => files.extend(sources(&path)),
            false if path.extension().is_some_and(|e| e == "rs") => files.push(path),
            false => {}
        }
    }
    files.sort();
    files
}
