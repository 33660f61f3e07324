//! Keeps a training going that leaves checkpoints: runs a command, and runs it again when it dies
//! or when its checkpoint grows old, on the hosts that are up then.
//!
//!     cargo run --example supervise -- --beat out/last --stall 600 --hosts ./hosts.sh -- \
//!         mpirun --host {hosts} -n {ranks} ./train --resume out/last
//!
//! Knows nothing of MPI. What it starts is one process group, which ends with it, however it ends.

use clap::Parser;
use std::io::{self, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

/// Run a command until it ends with code 0; run it again when it dies or stalls
#[derive(Parser)]
struct Args {
    /// File that the command touches when it gets on: its checkpoint
    #[arg(long)]
    beat: Option<PathBuf>,
    /// Seconds without a beat after which the run is ended
    #[arg(long, default_value_t = 600.0, value_parser = seconds)]
    stall: f64,
    /// Runs after the first, at most
    #[arg(long, default_value_t = 10)]
    restarts: usize,
    /// Seconds before another run
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    pause: f64,
    /// Seconds between asking a run to end (SIGTERM) and ending it (SIGKILL)
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    grace: f64,
    /// Shell command that prints the hosts that are up, HOST or HOST:SLOTS a line
    #[arg(long)]
    hosts: Option<String>,
    /// The command; {hosts} (HOST:SLOTS,…), {ranks} (their slots) and {run} (0, 1, …) are filled in
    #[arg(required = true, last = true)]
    command: Vec<String>,
}

fn main() -> ExitCode {
    ExitCode::from(supervise(&Args::parse()))
}

/// What a shell and `timeout` return for a command that cannot be run, and for one that took too
/// long.
const CANNOT_RUN: u8 = 126;
const STALLED: u8 = 124;

/// The code of the last run: 0 if one ended well, 128 + n after signal n.
fn supervise(args: &Args) -> u8 {
    let mut run = 0;
    loop {
        let (code, why) = match attempt(args, run) {
            Ok(End::Code(0)) => return 0,
            Ok(End::Code(code)) => (code, format!("ended with code {code}")),
            Ok(End::Stall) => (STALLED, format!("stood still for {} s and was ended", args.stall)),
            Err(e) => (CANNOT_RUN, e.to_string()),
        };
        eprintln!("supervise: run {run}: {why}");
        if run == args.restarts {
            eprintln!("supervise: giving up");
            return code;
        }
        run += 1;
        std::thread::sleep(Duration::from_secs_f64(args.pause));
    }
}

#[derive(Debug, PartialEq)]
enum End {
    Code(u8),
    Stall,
}

/// One run, from finding hosts to the end of its last process.
fn attempt(args: &Args, run: usize) -> io::Result<End> {
    let (hosts, ranks) = match &args.hosts {
        Some(command) => discover(command, args.stall)?,
        None => ("localhost".to_string(), 1),
    };
    let fill = |word: &String| {
        let word = word.replace("{hosts}", &hosts).replace("{ranks}", &ranks.to_string());
        word.replace("{run}", &run.to_string())
    };
    let words: Vec<String> = args.command.iter().map(fill).collect();
    eprintln!("supervise: run {run}: {}", words.join(" "));
    let mut leash = Leash::new(args.grace)?;
    let mut command = Command::new(&words[0]);
    let mut child = leash.spawn(command.args(&words[1..]))?;
    let beat = || args.beat.as_ref().and_then(|path| path.metadata().ok()?.modified().ok());
    // A beat is a change of the time, whatever clock it is of.
    let (mut last, mut still) = (beat(), 0.0);
    while still <= args.stall {
        if let Some(status) = child.try_wait()? {
            return Ok(End::Code(code(status)));
        }
        still += look_later(args.stall);
        let now = beat();
        if now != last || args.beat.is_none() {
            (last, still) = (now, 0.0);
        }
    }
    leash.ask();
    let mut asked = 0.0;
    while child.try_wait()?.is_none() && asked < args.grace {
        asked += look_later(args.grace);
    }
    Ok(End::Stall)
}

/// The hosts that are up, as `mpirun --host` takes them, and how many ranks they have room for.
fn discover(command: &str, limit: f64) -> io::Result<(String, usize)> {
    let wrong = |got: String| {
        io::Error::other(format!("{command}: expected HOST or HOST:SLOTS a line, got {got}"))
    };
    let leash = Leash::new(0.0)?;
    let mut child = leash.spawn(Command::new("sh").args(["-c", command]).stdout(Stdio::piped()))?;
    let mut waited = 0.0;
    while child.try_wait()?.is_none() {
        if waited > limit {
            return Err(wrong(format!("nothing for {limit} s")));
        }
        waited += look_later(limit);
    }
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let hosts: Vec<&str> = text.split_whitespace().collect();
    let slots = |host: &&str| host.rsplit_once(':').map_or(Some(1), |(_, n)| n.parse().ok());
    match hosts.iter().map(slots).sum::<Option<usize>>() {
        Some(ranks) if output.status.success() && ranks > 0 => Ok((hosts.join(","), ranks)),
        _ => Err(wrong(format!("{text:?} and {}", output.status))),
    }
}

/// Sleeps for a small part of a limit, and says how long was to be slept: time in which this
/// program was stopped, or the whole machine, is held against nobody.
fn look_later(limit: f64) -> f64 {
    let nap = (limit / 50.0).clamp(0.005, 0.1);
    std::thread::sleep(Duration::from_secs_f64(nap));
    nap
}

fn code(status: ExitStatus) -> u8 {
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    code.and_then(|code| code.try_into().ok()).unwrap_or(CANNOT_RUN)
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..1e9).contains(&seconds) => Ok(seconds),
        _ => Err(format!("expected seconds, got {text}")),
    }
}

/// A shell that leads the process group of a run. It ends the group when its pipe is closed, which
/// the system does when this program ends, however it ends; so no run outlives its supervisor.
struct Leash(Child);

impl Leash {
    fn new(grace: f64) -> io::Result<Self> {
        // A line asks the group to end. Then, or if there is none, the end of the pipe ends it.
        let script = format!(
            "trap '' TERM INT HUP
             if read -r _; then kill -s TERM 0; read -r _; else kill -s TERM 0; sleep {grace}; fi
             kill -s KILL 0"
        );
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).stdin(Stdio::piped()).process_group(0);
        shell.spawn().map(Leash)
    }

    /// Starts a command in the group.
    fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        let group = self.0.id() as i32;
        command.stdin(Stdio::null()).process_group(group).spawn().map_err(|e| {
            io::Error::new(e.kind(), format!("{}: {e}", command.get_program().display()))
        })
    }

    fn ask(&mut self) {
        if let Some(pipe) = &mut self.0.stdin {
            // A shell that is gone cannot be asked; nothing is lost.
            let _ = pipe.write_all(b"\n");
        }
    }
}

impl Drop for Leash {
    /// Ends what is left of the group at once, and waits for that.
    fn drop(&mut self) {
        self.ask();
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    /// Supervises a shell script in a folder of its own.
    fn run(name: &str, options: &[&str], script: &str) -> (u8, PathBuf) {
        let dir = std::env::temp_dir().join(format!("supervise-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let beat = dir.join("beat").display().to_string();
        let script = format!("cd '{}'; echo {{run}} >>runs; {script}", dir.display());
        let mut args = vec!["supervise", "--pause", "0.01", "--grace", "0.5", "--beat", &beat];
        args.extend(options);
        args.extend(["--", "sh", "-c", &script]);
        (supervise(&Args::parse_from(args)), dir)
    }

    fn said(dir: &Path, file: &str) -> String {
        fs::read_to_string(dir.join(file)).unwrap()
    }

    #[test]
    fn a_run_that_dies_is_run_again() {
        let (code, dir) = run("dies", &[], "[ {run} = 2 ]");
        assert_eq!((code, &*said(&dir, "runs")), (0, "0\n1\n2\n"));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn it_gives_up_with_the_code_of_the_last_run() {
        for (script, code) in [("exit 7", 7), ("kill -s KILL $$", 137), ("exec ./nothing", 127)] {
            let (got, dir) = run("gives-up", &["--restarts", "2"], script);
            assert_eq!((got, &*said(&dir, "runs")), (code, "0\n1\n2\n"), "{script}");
            fs::remove_dir_all(dir).unwrap();
        }
        let missing = ["supervise", "--pause", "0", "--restarts", "1", "--", "/no/such/program"];
        assert_eq!(supervise(&Args::parse_from(missing)), CANNOT_RUN);
    }

    #[test]
    fn a_run_that_stalls_is_ended_with_all_it_started() {
        // The first run gets on for a while, then waits for ever and does not want to end.
        let script = "[ {run} = 1 ] && exit 0; trap '' TERM
            for i in 1 2 3; do touch beat; sleep 0.1; done
            sleep 1000 & echo $! >child; wait; wait";
        let (code, dir) = run("stalls", &["--stall", "0.5"], script);
        assert_eq!((code, &*said(&dir, "runs")), (0, "0\n1\n"));
        // Of a process that nobody has waited for yet, the command line is empty.
        let child = format!("/proc/{}/cmdline", said(&dir, "child").trim());
        assert_eq!(fs::read(child).unwrap_or_default(), b"");
        let (code, _) = run("stalls", &["--stall", "0.2", "--restarts", "0"], "sleep 1000");
        assert_eq!(code, STALLED);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_run_that_gets_on_is_left_alone() {
        let script = "i=0; while [ $i -lt 40 ]; do touch beat; sleep 0.1; i=$((i+1)); done";
        let (code, dir) = run("gets-on", &["--stall", "2", "--restarts", "0"], script);
        assert_eq!((code, &*said(&dir, "runs")), (0, "0\n"));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn hosts_are_found_before_every_run() {
        let dir = std::env::temp_dir().join(format!("supervise-{}-hosts", std::process::id()));
        let hosts = format!("cd '{}'; printf 'a:2\\nb\\n'; [ -e up ] && echo c:4", dir.display());
        let script = "echo {hosts} {ranks} >>hosts; touch up; [ {run} = 1 ]";
        // Two are up, then three.
        let (code, dir) = run("hosts", &["--hosts", &format!("{hosts}; true")], script);
        assert_eq!((code, &*said(&dir, "hosts")), (0, "a:2,b 3\na:2,b,c:4 7\n"));
        fs::remove_dir_all(dir).unwrap();
        for wrong in ["true", "echo a:x", "echo a; exit 1", "sleep 1000"] {
            assert!(discover(wrong, 0.2).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_run_does_not_outlive_its_supervisor() {
        let mut leash = Leash::new(0.2).unwrap();
        let mut child = leash.spawn(Command::new("sleep").arg("1000")).unwrap();
        // What the system does for a program that has ended.
        drop(leash.0.stdin.take());
        assert_eq!(child.wait().unwrap().signal(), Some(15));
        let mut stubborn = Command::new("sh");
        let leash = Leash::new(0.2).unwrap();
        let mut child = leash.spawn(stubborn.args(["-c", "trap '' TERM; sleep 1000; :"])).unwrap();
        drop(leash);
        assert!(child.wait().unwrap().signal().is_some());
    }
}
