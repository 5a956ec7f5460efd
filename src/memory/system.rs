//! Memory that the system can still provide to this process.
//!
//! Only Linux is queried: it overcommits memory and kills processes that use it, so the check must
//! come first. Windows commits memory on allocation and macOS swaps, so memory that was allocated
//! successfully can be used; there, and in browsers, the amount is unknown and the allocation
//! itself is the check. A crate that supports every system (sysinfo) would add a large dependency
//! tree.

/// Free memory in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Free {
    /// Memory of the machine or of the process's control group. An estimate, since other processes
    /// use it too.
    pub memory: Option<u64>,
    /// Remaining address space and data segment of this process, beyond which allocations fail.
    pub process: Option<u64>,
}

impl Free {
    /// Queries the current values.
    pub fn now() -> Self {
        #[cfg(target_os = "linux")]
        return linux::free(std::path::Path::new("/"));
        #[cfg(not(target_os = "linux"))]
        Self::default()
    }
}

/// Returns the address space that the allocator has reserved but not used yet, from which small
/// allocations can still be served.
#[cfg(feature = "cli")]
pub(super) fn allocator_reserve() -> u64 {
    #[cfg(target_os = "linux")]
    return linux::allocator_reserve(
        &std::fs::read_to_string("/proc/self/maps").unwrap_or_default(),
    );
    #[cfg(not(target_os = "linux"))]
    0
}

#[cfg(target_os = "linux")]
mod linux {
    use super::Free;
    use std::fs::read_to_string;
    use std::path::Path;

    /// Reads the limits from files under `root`, which is `/` except in tests. Missing or
    /// unreadable files mean no limit.
    pub(super) fn free(root: &Path) -> Free {
        let read = |path: &str| read_to_string(root.join(path)).unwrap_or_default();
        let (meminfo, status, limits) =
            (read("proc/meminfo"), read("proc/self/status"), read("proc/self/limits"));
        let machine = kib(&meminfo, "MemAvailable:");
        // In this mode the kernel does not overcommit.
        let strict = read("proc/sys/vm/overcommit_memory").trim() == "2";
        let uncommitted =
            || Some(kib(&meminfo, "CommitLimit:")?.saturating_sub(kib(&meminfo, "Committed_AS:")?));
        let groups = groups(root, &read("proc/self/cgroup"));
        let of_process = |limit: &str, used: &str| {
            Some(soft_limit(&limits, limit)?.saturating_sub(kib(&status, used)?))
        };
        Free {
            memory: [machine, groups].into_iter().flatten().min(),
            process: [
                of_process("Max address space", "VmSize:"),
                of_process("Max data size", "VmData:"),
                strict.then(uncommitted).flatten(),
            ]
            .into_iter()
            .flatten()
            .min(),
        }
    }

    /// Returns the bytes of anonymous mappings that can be neither read nor written.
    #[cfg(any(feature = "cli", test))]
    pub(super) fn allocator_reserve(maps: &str) -> u64 {
        let bytes = |line: &str| {
            let mut fields = line.split_whitespace();
            let (range, access) = (fields.next()?, fields.next()?);
            let (from, to) = range.split_once('-')?;
            // After the permissions: offset, device, inode, and optionally a name.
            let is_reserve =
                access == "---p" && fields.clone().nth(2) == Some("0") && fields.count() == 3;
            is_reserve.then(|| {
                Some(
                    u64::from_str_radix(to, 16)
                        .ok()?
                        .saturating_sub(u64::from_str_radix(from, 16).ok()?),
                )
            })?
        };
        maps.lines().filter_map(bytes).sum()
    }

    /// Returns the value of the line `key 123 kB` in bytes.
    fn kib(text: &str, key: &str) -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    }

    /// Returns the soft limit of the line that begins with `name`; `None` if unlimited.
    fn soft_limit(limits: &str, name: &str) -> Option<u64> {
        limits
            .lines()
            .find_map(|line| line.strip_prefix(name))?
            .split_whitespace()
            .next()?
            .parse()
            .ok()
    }

    /// Returns the memory left by the control groups of the process, of version 2 and of the memory
    /// controller of version 1.
    fn groups(root: &Path, own: &str) -> Option<u64> {
        let group = |line: &str| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(':')?;
            let (base, files) = match controllers {
                "" => ("sys/fs/cgroup", V2),
                _ if controllers.split(',').any(|c| c == "memory") => ("sys/fs/cgroup/memory", V1),
                _ => return None,
            };
            left_in_hierarchy(&root.join(base), path.trim_start_matches('/'), files)
        };
        own.lines().filter_map(group).min()
    }

    /// Names of a group's files for limit and usage, and the key in `memory.stat` of the usage that
    /// the kernel can reclaim.
    type Files = [&'static str; 3];
    const V2: Files = ["memory.max", "memory.current", "inactive_file "];
    const V1: Files = ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "];

    /// Returns the minimum memory left by a group and its ancestors. In a container its own group
    /// is mounted as the root, regardless of its path outside.
    fn left_in_hierarchy(base: &Path, path: &str, files: Files) -> Option<u64> {
        let inner = base.join(path);
        inner
            .ancestors()
            .take_while(|directory| directory.starts_with(base))
            .filter_map(|directory| left(directory, files))
            .min()
    }

    fn left(directory: &Path, [limit, used, cache]: Files) -> Option<u64> {
        let number =
            |name: &str| read_to_string(directory.join(name)).ok()?.trim().parse::<u64>().ok();
        // `max` means unlimited and does not parse as a number.
        let (limit, used) = (number(limit)?, number(used)?);
        let stat = read_to_string(directory.join("memory.stat")).unwrap_or_default();
        let cached = stat
            .lines()
            .find_map(|line| line.strip_prefix(cache)?.trim().parse::<u64>().ok())
            .unwrap_or(0);
        Some(limit.saturating_sub(used.saturating_sub(cached)))
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use std::fs;

        /// Creates a directory tree with the given files.
        fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
            let root = tempfile::tempdir().unwrap();
            for (name, text) in files {
                let path = root.path().join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            root
        }

        const MEMINFO: (&str, &str) = (
            "proc/meminfo",
            "MemTotal: 9000 kB\nMemAvailable:    8000 kB\nCommitLimit: 5000 kB\nCommitted_AS:  1000 kB\n",
        );

        #[test]
        fn nothing_readable_limits_nothing() {
            assert_eq!(free(root(&[]).path()), Free::default());
            let odd = [
                ("proc/meminfo", "MemAvailable: lots kB"),
                ("proc/self/cgroup", "what\n0::"),
                ("proc/self/limits", "Max"),
            ];
            assert_eq!(free(root(&odd).path()), Free::default());
        }

        #[test]
        fn the_least_of_machine_and_control_groups_counts() {
            let v2 = [
                MEMINFO,
                ("proc/self/cgroup", "0::/outer/inner\n"),
                ("sys/fs/cgroup/outer/inner/memory.max", "max\n"),
                ("sys/fs/cgroup/outer/inner/memory.current", "1\n"),
                ("sys/fs/cgroup/outer/memory.max", "4096000\n"),
                ("sys/fs/cgroup/outer/memory.current", "1024000\n"),
                ("sys/fs/cgroup/outer/memory.stat", "anon 4\ninactive_file 24000\n"),
            ];
            assert_eq!(free(root(&v2).path()).memory, Some(4_096_000 - 1_000_000));
            assert_eq!(free(root(&v2[..1]).path()).memory, Some(8000 << 10));
            let container = [
                ("proc/self/cgroup", "4:cpu,memory:/docker/abc\n3:cpuset:/\n0::/\n"),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "3000\n"),
                ("sys/fs/cgroup/memory/memory.usage_in_bytes", "5000\n"),
                ("sys/fs/cgroup/memory/memory.stat", "total_inactive_file 2500\n"),
            ];
            assert_eq!(free(root(&container).path()).memory, Some(500));
        }

        #[test]
        fn limits_of_the_process_are_less_what_it_uses() {
            let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                          Max data size             unlimited            unlimited            bytes     \n\
                          Max address space         1048576              unlimited            bytes     \n";
            let files = [
                MEMINFO,
                ("proc/self/limits", limits),
                ("proc/self/status", "VmSize:\t     24 kB\nVmData:\t 5 kB\n"),
            ];
            assert_eq!(free(root(&files).path()).process, Some(1000 << 10));
            assert_eq!(free(root(&files[..2]).path()).process, None);
            let strict = [MEMINFO, ("proc/sys/vm/overcommit_memory", "2\n")];
            assert_eq!(free(root(&strict).path()).process, Some(4000 << 10));
        }

        #[test]
        fn what_the_allocator_sets_apart_are_mappings_of_no_file_and_no_access() {
            let maps = "7f0000000000-7f0000021000 rw-p 00000000 00:00 0 \n\
                        7f0000021000-7f0004000000 ---p 00000000 00:00 0 \n\
                        7f0004000000-7f0004001000 ---p 00021000 fe:00 1234  /usr/lib/libc.so.6\n\
                        odd line\n";
            assert_eq!(allocator_reserve(maps), 0x3fdf000);
        }

        #[test]
        fn this_machine_states_what_it_has() {
            assert!(Free::now().memory.is_some_and(|bytes| bytes > 0), "{:?}", Free::now());
        }
    }
}
