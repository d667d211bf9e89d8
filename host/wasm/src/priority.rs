//! The priority of work that must not be felt.

use std::mem::size_of;

/// Niceness: it gets what the others leave.
const NICE: i32 = 19;

/// How long it runs before another thread that is ready gets its turn, in nanoseconds. Linux 6.12 and later keep to it (earlier
/// ones to some milliseconds, niceness or not). While a plugin was swapped each half second, the p99 of requests was 2.5
/// to 3.5 times that of the time before by niceness alone, 1.5 times with this, 1.5 to 2.1 times as `SCHED_IDLE`, which
/// on busy cores would hardly ever run.
const SLICE: u64 = 100_000;

/// Puts the calling thread behind all others. A system that refuses keeps the usual priority, which is slower for others
/// but not wrong.
pub(crate) fn step_back() {
    if !in_slices() {
        let _refused = rustix::process::nice(NICE);
    }
}

/// Sets niceness and slice; says whether the kernel took them.
#[expect(unsafe_code, reason = "the C library has no function for this system call")]
fn in_slices() -> bool {
    let attributes = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: libc::SCHED_OTHER as u32,
        sched_flags: 0,
        sched_nice: NICE,
        sched_priority: 0,
        sched_runtime: SLICE,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the kernel reads `size` bytes at the pointer, which `attributes` has, and writes only `size` back.
    unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) == 0 }
}

#[cfg(test)]
mod tests {
    /// Fields of `/proc/PID/stat` that stand after the name, which may have blanks (proc(5)).
    fn niceness() -> i32 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let (_, after) = stat.rsplit_once(") ").unwrap();
        after.split(' ').nth(16).unwrap().parse().unwrap()
    }

    #[test]
    fn only_the_thread_that_asks_steps_back() {
        let before = niceness();
        let stepped_back = std::thread::spawn(|| {
            super::step_back();
            niceness()
        });
        assert_eq!(stepped_back.join().unwrap(), 19);
        assert_eq!(niceness(), before);
        assert!(std::thread::spawn(super::in_slices).join().unwrap(), "Linux has the call since 3.14");
    }
}
