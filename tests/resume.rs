//! Row F6 and section H: checkpoints that bring back every bit, that Python reads, and files that
//! must be refused with nothing changed.

mod files;
mod support;
mod trainings;

use files::{refused, scratch, written};
use gradtape::optim::{Adam, Averaged, Sgd};
use gradtape::{Checkpoints, ErrorKind, Notes, Result, Session, Tape, Tensor};
use std::fs;
use std::path::Path;
use support::counted;
use trainings::Trainer;

#[global_allocator]
static ALLOCATOR: support::Counting = support::Counting;

/// After 7 steps an epoch of 7 batches is over; after 10 the second one stands in its middle.
#[test]
fn a_resumed_training_has_the_bits_of_one_that_was_not_stopped() -> Result<()> {
    let mut whole = Trainer::new()?;
    whole.run(20)?;
    for stop in [0, 1, 6, 7, 10, 19] {
        let path = scratch(&format!("resumed-{stop}.safetensors"));
        let mut first = Trainer::new()?;
        first.run(stop)?;
        first.session.save(&path, &first.notes())?;
        // What a session was before it loads does not matter.
        let mut second = Trainer::new()?;
        second.run(3)?;
        let notes = second.session.load(&path)?;
        assert_eq!((second.bits(), second.steps()), (first.bits(), stop));
        second.resume(&notes)?;
        second.run(20 - stop)?;
        assert_eq!(second.bits(), whole.bits(), "stopped after {stop}");
    }
    Ok(())
}

/// The bits are of the number of shards; threads may change when it goes on.
#[test]
fn a_sharded_training_goes_on_with_other_threads() -> Result<()> {
    let sharded = |shards, threads| -> Result<Trainer> {
        let mut trainer = Trainer::new()?;
        trainer.session = trainer.session.with_shards(shards)?.with_threads(threads)?;
        Ok(trainer)
    };
    let mut whole = sharded(4, 1)?;
    whole.run(20)?;
    let path = scratch("sharded.safetensors");
    let mut first = sharded(4, 2)?;
    first.run(7)?;
    first.session.save(&path, &first.notes())?;
    let mut second = sharded(4, 3)?;
    let notes = second.session.load(&path)?;
    second.resume(&notes)?;
    second.run(13)?;
    assert_eq!(second.bits(), whole.bits());
    let other = sharded(2, 1)?.session.load(&path);
    refused(other, "expected a checkpoint of 2 shards, got one of 4");
    Ok(())
}

/// Two train ops, one without state; a variable without a value; values that are hard to keep.
#[test]
fn every_kind_of_state_comes_back() -> Result<()> {
    let tape = Tape::<f64>::new();
    let hard = [-0.0, f64::MIN_POSITIVE / 8.0, f64::INFINITY, f64::NAN, 1e308];
    let odd = tape.variable("odd", Tensor::vector(hard.to_vec()));
    let empty = tape.variable("empty", Tensor::zeros([0, 3])?);
    let unset = tape.uninitialized("unset", [2]);
    let (a, b) = (tape.variable("a", 1.0), tape.variable("b", 1.0));
    let (one, two) = (Adam::new(0.1).minimize(a.square())?, Sgd::new(0.1).minimize(b.square())?);
    let three = Sgd::new(0.1).with_momentum(0.9).minimize((a * b).square())?;
    let four = Averaged::exponential(Sgd::new(0.1), 0.5).minimize((a + b).square())?;
    let mut session = Session::new(&tape)?;
    session.run((one, two), &[])?;
    session.run(two, &[])?;
    session.run(four, &[])?;
    session.scale_rate(two, 0.1)?;
    session.swap_average(four)?;
    let path = scratch("kinds.safetensors");
    let notes = Notes::new().with("learning rate", 0.1).with("text", "\"ä\"\n{}");
    session.save(&path, &notes)?;
    let (a_then, b_then) = (session.value(a)?, session.value(b)?);

    session.run(three, &[])?;
    session.assign(unset, &Tensor::vector(vec![1.0, 2.0]))?;
    assert_eq!(session.load(&path)?, notes);
    let bits = |x: &[f64]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(session.value(odd)?.as_slice()), bits(&hard));
    assert_eq!(session.value(empty)?.shape(), [0, 3].into());
    assert_eq!(session.value(unset).unwrap_err().kind(), ErrorKind::Uninitialized);
    assert_eq!((session.value(a)?, session.value(b)?), (a_then, b_then));
    let steps = [one, two, three, four].map(|train| session.steps(train).unwrap());
    assert_eq!(steps, [1, 2, 0, 1]);

    // The same state is the same bytes, whatever happened before.
    let again = scratch("again.safetensors");
    session.save(&again, &notes)?;
    assert_eq!(fs::read(&path).unwrap(), fs::read(again).unwrap());

    // The factor of a rate and weights that stand aside are part of it.
    refused(session.run(four, &[]), "weights back in their place");
    session.swap_average(four)?;
    session.run(four, &[])?;
    let before = session.value(b)?.item()?;
    session.run(two, &[])?;
    assert!((session.value(b)?.item()? - before * (1.0 - 0.1 * 0.1 * 2.0)).abs() < 1e-15);
    Ok(())
}

#[test]
fn the_graph_hash_is_of_what_is_recorded() -> Result<()> {
    let hash = |name: &str, width: usize, factor: f64, axis: isize, rate: f64, start: f64| {
        let tape = Tape::<f64>::new();
        let w = tape.variable(name, Tensor::full([3, width], start)?);
        let constant = tape.constant(Tensor::full([width], start)?);
        let loss = (w * factor + constant).sum_axes(&[axis]).square().mean();
        Sgd::new(rate).minimize(loss)?;
        Ok(Session::new(&tape)?.graph_hash())
    };
    let it = hash("w", 2, 2.0, 0, 0.1, 1.0)?;
    assert_eq!(it, hash("w", 2, 2.0, 0, 0.1, 1.0)?);
    assert_eq!(it, hash("w", 2, 2.0, 0, 0.3, 5.0)?, "rate and initial values are no part of it");
    for other in [
        hash("v", 2, 2.0, 0, 0.1, 1.0),
        hash("w", 3, 2.0, 0, 0.1, 1.0),
        hash("w", 2, 3.0, 0, 0.1, 1.0),
        hash("w", 2, 2.0, 1, 0.1, 1.0),
    ] {
        assert_ne!(it, other?);
    }
    Ok(())
}

/// A small session with a step of Adam behind it.
fn small() -> Result<Session> {
    let tape = Tape::<f64>::new();
    let w = tape.variable("w", Tensor::from_rows([2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])?);
    let b = tape.variable("b", 7.0);
    let train = Adam::new(0.1).minimize((w.square().sum() + b.square()).sqrt())?;
    let mut session = Session::new(&tape)?;
    session.run(train, &[])?;
    Ok(session)
}

/// That loading fails with this kind and fragment, and leaves the session with the bytes it has.
#[track_caller]
fn unloadable(session: &mut Session, path: &Path, kind: ErrorKind, fragment: &str) {
    let before = session.parameters().to_vec();
    let error = session.load(path).expect_err("accepted");
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(fragment), "{error} lacks {fragment:?}");
    assert_eq!(session.parameters(), before);
}

#[test]
fn files_cut_anywhere_or_changed_anywhere_are_refused() -> Result<()> {
    let mut session = small()?;
    let path = scratch("damaged.safetensors");
    session.save(&path, &Notes::new().with("step", 1))?;
    let whole = fs::read(&path).unwrap();
    let saved = |session: &Session| -> Result<Vec<u8>> {
        let copy = scratch("damaged-check.safetensors");
        session.save(&copy, &Notes::new().with("step", 1))?;
        Ok(fs::read(copy).unwrap())
    };
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let what = if length == 0 { "empty" } else { "cut short" };
        unloadable(&mut session, &path, ErrorKind::Format, what);
    }
    for at in 0..whole.len() {
        for change in [0x01, 0x20, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= change;
            fs::write(&path, &bytes).unwrap();
            unloadable(&mut session, &path, ErrorKind::Format, "");
            let found = session.load_parameters(&path);
            // Before the checksum's place the file may pass for somebody else's.
            assert!(found.is_err() || at < 60, "byte {at} ^ {change:#x}");
        }
    }
    fs::write(&path, [&whole[..], b"\n"].concat()).unwrap();
    unloadable(&mut session, &path, ErrorKind::Format, "more bytes than it claims");
    assert_eq!(saved(&session)?, whole, "optimizers are as they were, too");
    fs::write(&path, &whole).unwrap();
    session.load(&path)?;
    Ok(())
}

#[test]
fn foreign_and_newer_checkpoints_are_told_apart() -> Result<()> {
    let mut session = small()?;
    let path = scratch("foreign.safetensors");

    let tape = Tape::<f64>::new();
    tape.variable("w", Tensor::zeros([2, 3])?);
    tape.variable("b", 0.5);
    Session::new(&tape)?.save(&path, &Notes::new())?;
    unloadable(&mut session, &path, ErrorKind::Tape, "of this graph");
    session.load_parameters(&path)?;
    assert_eq!(session.parameters(), [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5]);

    Session::new(&Tape::<f32>::new())?.save(&path, &Notes::new())?;
    unloadable(
        &mut session,
        &path,
        ErrorKind::Tape,
        "expected a checkpoint of f64, got one of f32",
    );

    session.save(&path, &Notes::new())?;
    let whole = fs::read(&path).unwrap();
    fs::write(&path, signed(&whole, r#"\"version\":1"#, r#"\"version\":2"#)).unwrap();
    unloadable(&mut session, &path, ErrorKind::Version, "version 1, got version 2");

    // Signed by somebody who means harm.
    for (from, to, fragment) in [
        (r#"\"version\":1"#, r#"\"version\":0"#, "a version"),
        (r#"\"notes\":{"#, r#"\"motes\":{"#, "notes"),
        (r#"\"notes\":{}"#, r#"\"notes\":{7"#, "JSON"),
        (r#"\"optimizers\":{"#, r#"\"optimisers\":{"#, "expected 2 tensors, got 4"),
        (r#"\"steps\":1"#, r#"\"steps\":-"#, "JSON"),
        (r#"\"steps\":1"#, r#"\"stops\":1"#, "expected the state of adam"),
        (r#"\"adam#"#, r#"\"adem#"#, "expected the state of 0 train ops, got 1"),
        (r#""w":{"#, r#""v":{"#, "expected 3 tensors, got 4"),
    ] {
        fs::write(&path, signed(&whole, from, to)).unwrap();
        unloadable(&mut session, &path, ErrorKind::Format, fragment);
    }
    Ok(())
}

/// A checkpoint with a text replaced by one of the same length, and the checksum of that.
fn signed(whole: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = whole.to_vec();
    let at = whole.windows(from.len()).position(|w| w == from.as_bytes()).expect("the text");
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    let key = br#"\"checksum\":\""#;
    let digits = bytes.windows(key.len()).position(|w| w == key).expect("a checksum") + key.len();
    bytes[digits..digits + 8].fill(b'0');
    let sum = format!("{:08x}", crc32fast::hash(&bytes));
    bytes[digits..digits + 8].copy_from_slice(sum.as_bytes());
    bytes
}

/// A safetensors file by hand.
fn forged(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

#[test]
fn hostile_safetensors_files_are_refused() -> Result<()> {
    let tape = Tape::<f32>::new();
    tape.variable("a", Tensor::zeros([2])?);
    let mut session = Session::new(&tape)?;
    let a =
        |rest: &str| format!(r#"{{"a":{{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}{rest}}}"#);
    let b = |shape: &str, offsets: &str| {
        a(&format!(r#","b":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}"#))
    };
    session.load_parameters(written("fine.safetensors", &forged(&a(""), 8)))?;
    let with_length = |n: u64| [&n.to_le_bytes()[..], a("").as_bytes()].concat();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("empty", vec![]),
        ("cut short", vec![0]),
        ("damaged", forged("", 0)),
        ("damaged", with_length(0)),
        ("header of 18446744073709551615 bytes", with_length(u64::MAX)),
        ("header of 99999999 bytes", with_length(99_999_999)),
        ("damaged", forged("[]", 0)),
        ("damaged", forged("{\"a\":", 0)),
        ("damaged", forged(&"[".repeat(100_000), 0)),
        ("damaged", forged("\u{0}\u{0}", 8)),
        ("expected a tensor a", forged("{}", 0)),
        ("offset", forged(&b("[2]", "[4,12]"), 12)), // overlap
        ("offset", forged(&b("[2]", "[12,20]"), 20)), // hole
        ("offset", forged(&b("[2]", "[16,8]"), 16)),
        ("offset", forged(&b("[2]", "[8,7]"), 8)),
        ("more bytes", forged(&a(""), 9)),
        ("cut short", forged(&a(""), 7)),
        ("offset", forged(&b("[2]", "[8,16]").replace("\"b\"", "\"a\""), 16)),
        ("twice", forged(&b("[2]", "[0,8]").replace("\"b\"", "\"a\""), 8)),
        ("unknown variant", forged(&a("").replace("F32", "F33"), 8)),
        ("invalid shape", forged(&a("").replace("[2]", "[3]"), 8)),
        ("overflow", forged(&b("[4294967296,4294967296]", "[8,8]"), 8)),
        ("cut short", forged(&b("[1099511627776]", "[8,4398046511112]"), 8)),
        ("damaged", forged(&b("[-1]", "[8,8]"), 8)),
        ("damaged", forged(&b("[1e3]", "[8,8]"), 8)),
        ("damaged", forged(&a("").replace("8]", "18446744073709551616]"), 8)),
        ("expected [2], got [1, 2]", forged(&a("").replace("[2]", "[1,2]"), 8)),
        ("expected numbers of f32, got I32", forged(&a("").replace("F32", "I32"), 8)),
        ("HTML", b"<!DOCTYPE html><html></html>".to_vec()),
        ("Git-LFS", b"version https://git-lfs.github.com/spec/v1\n".to_vec()),
        ("ZIP", b"PK\x03\x04 a checkpoint of PyTorch".to_vec()),
        ("no safetensors file", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x00".to_vec()),
    ];
    for (i, (fragment, bytes)) in cases.iter().enumerate() {
        let path = written(&format!("hostile-{i}.safetensors"), bytes);
        let (result, peak, _) = counted(|| session.load_parameters(&path));
        refused(result, fragment);
        assert!(peak <= 2 * bytes.len() + (1 << 20), "{fragment}: {peak} bytes");
        refused(session.load(&path), "safetensors");
    }
    refused(session.load(scratch("")), "expected a regular file, got a directory");
    refused(session.load(scratch("not there")), "not there");
    assert_eq!(session.parameters(), [0.0, 0.0]);
    Ok(())
}

/// Bytes that the fuzzer of a reader would try: parts of good files in another order.
#[test]
fn shuffled_files_are_refused() -> Result<()> {
    let mut session = small()?;
    let path = scratch("fuzzed.safetensors");
    session.save(&path, &Notes::new())?;
    let whole = fs::read(&path).unwrap();
    let mut rng = gradtape::Philox::new(1, 0);
    let before = session.parameters().to_vec();
    for _ in 0..3000 {
        let mut bytes = whole.clone();
        for _ in 0..=rng.below(3) {
            let mut at = || rng.below(bytes.len() as u64) as usize;
            let (from, to, n) = (at(), at(), at() % 24);
            let piece: Vec<u8> = bytes.iter().skip(from).take(n).copied().collect();
            let end = (to + piece.len()).min(bytes.len());
            bytes.splice(to..end, piece);
        }
        if bytes == whole {
            continue;
        }
        fs::write(&path, &bytes).unwrap();
        let (result, peak, _) = counted(|| session.load(&path));
        assert!(result.is_err(), "accepted");
        assert!(peak <= 2 * bytes.len() + (1 << 20), "{peak} bytes");
    }
    assert_eq!(session.parameters(), before);
    Ok(())
}

#[test]
fn a_folder_keeps_the_last_few_and_passes_over_damaged_ones() -> Result<()> {
    let folder = scratch("kept");
    fs::remove_dir_all(&folder).ok();
    refused(Checkpoints::new(&folder)?.keep(0), "at least 1");
    let checkpoints = Checkpoints::new(&folder)?.keep(3)?;
    let mut session = small()?;
    assert!(checkpoints.resume(&mut session)?.is_none());
    fs::write(folder.join("checkpoint-000001.safetensors.tmp"), "half").unwrap();
    fs::write(folder.join("notes.txt"), "mine").unwrap();
    for step in 1..=5 {
        let path = checkpoints.save(&session, &Notes::new().with("step", step))?;
        assert!(path.ends_with(format!("checkpoint-00000{step}.safetensors")));
    }
    let files = checkpoints.files()?;
    assert_eq!(files.len(), 3);
    let left: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 4, "{left:?}: the three, and what is not ours");

    let resumed = checkpoints.resume(&mut session)?.expect("a checkpoint");
    assert_eq!((resumed.notes.get("step")?, resumed.skipped.len()), (5, 0));
    fs::write(&files[2], "").unwrap();
    fs::write(&files[1], &fs::read(&files[1]).unwrap()[..100]).unwrap();
    let resumed = checkpoints.resume(&mut session)?.expect("a checkpoint");
    assert_eq!((resumed.notes.get("step")?, &resumed.path), (3, &files[0]));
    for (error, file) in resumed.skipped.iter().zip([&files[2], &files[1]]) {
        assert!(error.to_string().starts_with(&file.display().to_string()), "{error}");
    }
    // Going on from there, the next one is the newest, though its step is smaller.
    checkpoints.save(&session, &Notes::new().with("step", 4))?;
    let resumed = checkpoints.resume(&mut session)?.expect("a checkpoint");
    assert_eq!((resumed.notes.get("step")?, resumed.skipped.len()), (4, 0));

    let tape = Tape::<f64>::new();
    refused(checkpoints.resume(&mut Session::new(&tape)?), "of another");
    for file in checkpoints.files()? {
        fs::write(file, "damaged").unwrap();
    }
    refused(checkpoints.resume(&mut session), "got 3 that cannot");
    Ok(())
}

/// `numpy.safetensors` is Python's, `gradtape.safetensors` is ours and was read by Python;
/// `checkpoints.py` made the one and checks the other. Elements are 100·i + 10·j + k.
#[test]
fn f6_files_go_to_python_and_back() -> Result<()> {
    let reference = |file: &str| {
        format!("{}/tests/reference/checkpoints/{file}.safetensors", env!("CARGO_MANIFEST_DIR"))
    };
    let digits = |at: &[usize]| at.iter().fold(0, |n, i| 10 * n + i) as f64;
    let tape = Tape::<f64>::new();
    let [v, m, c] =
        [("v", &[3][..]), ("m", &[3, 4]), ("block/c", &[2, 3, 4])].map(|(name, shape)| {
            let shape = gradtape::Shape::new(shape).unwrap();
            tape.uninitialized(name, shape)
        });
    let mut session = Session::new(&tape)?;
    session.load_parameters(reference("numpy"))?;
    for variable in [v, m, c] {
        let want = Tensor::from_fn(variable.shape(), digits)?;
        assert_eq!(session.value(variable)?, want);
    }
    let path = scratch("gradtape.safetensors");
    session.save(&path, &Notes::new().with("epoch", 3))?;
    let same = fs::read(path).unwrap() == fs::read(reference("gradtape")).unwrap();
    assert!(same, "the file that Python has read is another");

    let mut part = Session::new(&tape)?;
    part.load_parameters_of(reference("gradtape"), &[m])?;
    assert_eq!(part.value(m)?, session.value(m)?);
    assert!(part.value(v).is_err());

    let tape = Tape::<f32>::new();
    tape.uninitialized("m", [3, 4]);
    let mut single = Session::new(&tape)?;
    single.load_parameters(reference("numpy"))?;
    refused(single.load_parameters(reference("gradtape")), "expected numbers of f32, got F64");
    Ok(())
}
