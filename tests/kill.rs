//! Row D6: a training that is killed at random moments, also while it writes a checkpoint, goes
//! on from the last one and ends with the bits of one that was not. `GRADTAPE_KILLS` says how
//! often; 30 times without.

mod trainings;

use gradtape::{Checkpoints, Philox};
use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;
use trainings::Trainer;

/// Names the folder to the process that is to be killed: this same test, started again.
const FOLDER: &str = "GRADTAPE_KILL_FOLDER";
const STEPS: u64 = 300;

#[test]
fn d6_kills_lose_nothing() {
    match env::var(FOLDER) {
        Ok(folder) => train(Path::new(&folder)),
        Err(_) => kill_often(),
    }
}

/// Trains to the end, from where the process before was killed, with a checkpoint at every step.
fn train(folder: &Path) {
    let checkpoints = Checkpoints::new(folder).unwrap().keep(2).unwrap();
    let mut trainer = Trainer::new().unwrap();
    if let Some(resumed) = checkpoints.resume(&mut trainer.session).unwrap() {
        assert!(resumed.skipped.is_empty(), "{:?}", resumed.skipped);
        trainer.resume(&resumed.notes).unwrap();
    }
    while trainer.steps() < STEPS {
        trainer.run(1).unwrap();
        checkpoints.save(&trainer.session, &trainer.notes()).unwrap();
    }
}

fn kill_often() {
    let want = {
        let mut unfailed = Trainer::new().unwrap();
        unfailed.run(STEPS).unwrap();
        unfailed.bits()
    };
    let n_kills: u64 = env::var("GRADTAPE_KILLS").map_or(30, |n| n.parse().unwrap());
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("killed");
    fs::remove_dir_all(&folder).ok();
    let mut rng = Philox::new(u64::from(std::process::id()), 0);
    let (mut kills, mut ends, mut resumed_in_the_middle) = (0, 0, 0);
    while kills < n_kills || ends == 0 {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "d6_kills_lose_nothing", "--nocapture"])
            .env(FOLDER, &folder)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        if kills < n_kills {
            sleep(Duration::from_micros(rng.below(60_000)));
            child.kill().unwrap();
        }
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!text.contains("panicked"), "{text}");

        let mut trainer = Trainer::new().unwrap();
        if fs::exists(&folder).unwrap() {
            let checkpoints = Checkpoints::new(&folder).unwrap();
            if let Some(resumed) = checkpoints.resume(&mut trainer.session).unwrap() {
                assert!(resumed.skipped.is_empty(), "{:?}", resumed.skipped);
            }
        }
        if output.status.success() {
            assert_eq!(trainer.bits(), want, "after {kills} kills");
            fs::remove_dir_all(&folder).unwrap();
            ends += 1;
        } else {
            kills += 1;
            resumed_in_the_middle += u64::from(trainer.steps() > 0);
        }
    }
    assert!(resumed_in_the_middle > 0, "no process lived to its first checkpoint");
}
