//! Files, file systems, block devices, loop devices, namespaces.

use super::super::forms::push_whole;
use super::super::options::{all_written, pointed};
use super::super::spec::{Holder, Part};
use super::request::{POINTER, Request, computed, counted, get, set};
use crate::error::Result;
use crate::ids::Addr;
use crate::memory::ReadMemory;
use crate::regs::Registers;

const INT: u64 = 4;
const LONG: u64 = 8;

#[rustfmt::skip] // one request, one line
pub(super) static REQUESTS: &[Request] = &[
    get(0x0001, "FIBMAP", INT),
    get(0x0002, "FIGETBSZ", INT),
    // Their numbers say "long", but the kernel transfers an int.
    get(0x8008_6601, "FS_IOC_GETFLAGS", INT),
    get(0x8008_7601, "FS_IOC_GETVERSION", INT),
    // struct fiemap { …, 24 extent_count, … } with 56 bytes for each extent.
    counted(0xc020_660b, "FS_IOC_FIEMAP", 32, 24, 56),
    // struct file_dedupe_range { …, 16 dest_count (16 bits, zero behind it), … } with 32 bytes for each.
    counted(0xc018_9436, "FIDEDUPERANGE", 24, 16, 32),
    // struct fsmap_head { 192 bytes, 8 fmh_count, … } with 64 bytes for each.
    counted(0xc0c0_583b, "FS_IOC_GETFSMAP", 192, 8, 64),
    // struct fsverity_digest { 0 algorithm, 2 size (16 bits each), digest[] }, of 64 bytes at most.
    get(0xc004_6686, "FS_IOC_MEASURE_VERITY", 4 + 64),
    // struct fscrypt_get_policy_ex_arg { policy_size (64 bits), policy[] }, of 24 bytes at most.
    get(0xc009_6616, "FS_IOC_GET_ENCRYPTION_POLICY_EX", 8 + 24),
    // struct pm_scan_arg: 12 words, 5 and 6 a vector of 24 bytes for each region. (/proc/PID/pagemap)
    computed(0xc060_6610, "PAGEMAP_SCAN", scan_parts, all_written),
    // struct procmap_query: 13 words, 10 the sizes of a name and of a build id, 11 and 12 where they go. (/proc/PID/maps)
    computed(0xc068_6611, "PROCMAP_QUERY", query_parts, all_written),
    // struct btrfs_ioctl_search_args_v2 { 104 bytes, 104 buf_size, buf }.
    counted(0xc070_9411, "BTRFS_IOC_TREE_SEARCH_V2", 112, 104, 1),
    // struct btrfs_ioctl_space_args { space_slots, total_spaces (64 bits each), 24 bytes for each slot }.
    counted(0xc010_9414, "BTRFS_IOC_SPACE_INFO", 16, 0, 24),

    set(0x125d, "BLKROSET"),
    get(0x125e, "BLKROGET", INT),
    set(0x125f, "BLKRRPART"),
    get(0x1260, "BLKGETSIZE", LONG),
    set(0x1261, "BLKFLSBUF"),
    set(0x1262, "BLKRASET"),
    get(0x1263, "BLKRAGET", LONG),
    set(0x1264, "BLKFRASET"),
    get(0x1265, "BLKFRAGET", LONG),
    get(0x1267, "BLKSECTGET", 2),
    get(0x1268, "BLKSSZGET", INT),
    set(0x1269, "BLKPG"),
    get(0x8008_1270, "BLKBSZGET", INT),
    set(0x1277, "BLKDISCARD"),
    get(0x1278, "BLKIOMIN", INT),
    get(0x1279, "BLKIOOPT", INT),
    get(0x127a, "BLKALIGNOFF", INT),
    get(0x127b, "BLKPBSZGET", INT),
    get(0x127c, "BLKDISCARDZEROES", INT),
    set(0x127d, "BLKSECDISCARD"),
    get(0x127e, "BLKROTATIONAL", 2),
    set(0x127f, "BLKZEROOUT"),
    get(0x0301, "HDIO_GETGEO", 16),
    get(0x030d, "HDIO_GET_IDENTITY", 512),
    get(0x2282, "SG_GET_VERSION_NUM", INT),
    get(0x5382, "SCSI_IOCTL_GET_IDLUN", 8),
    get(0x5386, "SCSI_IOCTL_GET_BUS_NUMBER", INT),

    set(0x5309, "CDROMEJECT"),
    set(0x5319, "CDROMCLOSETRAY"),
    get(0x5305, "CDROMREADTOCHDR", 2),
    get(0x5306, "CDROMREADTOCENTRY", 12),
    get(0x5310, "CDROMMULTISESSION", 8),
    get(0x5311, "CDROM_GET_MCN", 14),
    set(0x5320, "CDROM_SET_OPTIONS"),
    set(0x5325, "CDROM_MEDIA_CHANGED"),
    set(0x5326, "CDROM_DRIVE_STATUS"),
    set(0x5327, "CDROM_DISC_STATUS"),
    set(0x5329, "CDROM_LOCKDOOR"),
    set(0x5331, "CDROM_GET_CAPABILITY"),

    set(0x4c00, "LOOP_SET_FD"),
    set(0x4c01, "LOOP_CLR_FD"),
    set(0x4c02, "LOOP_SET_STATUS"),
    get(0x4c03, "LOOP_GET_STATUS", 168),
    set(0x4c04, "LOOP_SET_STATUS64"),
    get(0x4c05, "LOOP_GET_STATUS64", 232),
    set(0x4c06, "LOOP_CHANGE_FD"),
    set(0x4c07, "LOOP_SET_CAPACITY"),
    set(0x4c08, "LOOP_SET_DIRECT_IO"),
    set(0x4c09, "LOOP_SET_BLOCK_SIZE"),
    set(0x4c0a, "LOOP_CONFIGURE"),
    set(0x4c80, "LOOP_CTL_ADD"),
    set(0x4c81, "LOOP_CTL_REMOVE"),
    set(0x4c82, "LOOP_CTL_GET_FREE"),

    set(0xb701, "NS_GET_USERNS"), // the result is a descriptor
    set(0xb702, "NS_GET_PARENT"),
    set(0xb703, "NS_GET_NSTYPE"),
    get(0xb704, "NS_GET_OWNER_UID", INT),
    set(0xff01, "PIDFD_GET_CGROUP_NAMESPACE"), // to PIDFD_GET_UTS_NAMESPACE: descriptors
    set(0xff02, "PIDFD_GET_IPC_NAMESPACE"),
    set(0xff03, "PIDFD_GET_MNT_NAMESPACE"),
    set(0xff04, "PIDFD_GET_NET_NAMESPACE"),
    set(0xff05, "PIDFD_GET_PID_NAMESPACE"),
    set(0xff06, "PIDFD_GET_PID_FOR_CHILDREN_NAMESPACE"),
    set(0xff07, "PIDFD_GET_TIME_NAMESPACE"),
    set(0xff08, "PIDFD_GET_TIME_FOR_CHILDREN_NAMESPACE"),
    set(0xff09, "PIDFD_GET_USER_NAMESPACE"),
    set(0xff0a, "PIDFD_GET_UTS_NAMESPACE"),

    // Real-time clock: alarm, update and periodic interrupts on and off.
    set(0x7001, "RTC_AIE_ON"),
    set(0x7002, "RTC_AIE_OFF"),
    set(0x7003, "RTC_UIE_ON"),
    set(0x7004, "RTC_UIE_OFF"),
    set(0x7005, "RTC_PIE_ON"),
    set(0x7006, "RTC_PIE_OFF"),
    set(0x700f, "RTC_WIE_ON"),
    set(0x7010, "RTC_WIE_OFF"),
];

/// The structure behind the argument.
fn structure(r: &Registers, len: u64, parts: &mut Vec<Part>, mem: &dyn ReadMemory) -> Result<Option<usize>> {
    let part = Part {
        holder: Holder::Arg(POINTER),
        addr: Addr(r.arg(2)),
        len,
        copy_in: true,
    };
    push_whole(parts, part, mem)
}

fn scan_parts(r: &Registers, mem: &dyn ReadMemory) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    if let Some(scan) = structure(r, 96, &mut parts, mem)? {
        pointed(scan, (48, 24), 40, &mut parts, mem)?;
    }
    Ok(parts)
}

fn query_parts(r: &Registers, mem: &dyn ReadMemory) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    if let Some(query) = structure(r, 104, &mut parts, mem)? {
        pointed(query, (80, 1), 88, &mut parts, mem)?;
        pointed(query, (84, 1), 96, &mut parts, mem)?;
    }
    Ok(parts)
}
