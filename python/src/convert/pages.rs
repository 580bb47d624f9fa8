//! Fresh memory that is about to be filled: in large pages, where the kernel has them.

/// Below this the pages that are faulted in cost less than asking.
const LEAST_BYTES: usize = 4 << 20;
const PAGE_BYTES: usize = 4096;

/// Asks for large pages for memory that was just allocated and is about to be written as a whole: the first touch of a page costs more than the copy into it, and there are
/// 512 times fewer of them. Advice: where it is refused, loading takes longer.
#[expect(
    unsafe_code,
    reason = "advice on a range of addresses; frameworks allocate without it"
)]
pub(crate) fn expect_large(address: usize, bytes: usize) {
    if bytes < LEAST_BYTES {
        return;
    }
    let start = address.next_multiple_of(PAGE_BYTES);
    let end = (address + bytes) / PAGE_BYTES * PAGE_BYTES;
    #[cfg(target_os = "linux")]
    // SAFETY: the range lies inside an allocation that the caller holds, and this advice changes no byte of it.
    let _ = unsafe {
        rustix::mm::madvise(
            start as *mut std::ffi::c_void,
            end - start,
            rustix::mm::Advice::LinuxHugepage,
        )
    };
}
