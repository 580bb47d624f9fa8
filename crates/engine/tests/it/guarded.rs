//! Guarded memory: `save` returns before it is copied, `wait_staged` says when it has been, and what is saved is what it held.

use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use runtree_core::{Error, ErrorKind};
use runtree_engine::{EntrySource, IfBusy, SaveRequest, TensorData};
use runtree_testkit::place;

use crate::save_support::*;

const SOON: Option<Duration> = Some(Duration::from_millis(100));
const LONG: Option<Duration> = Some(Duration::from_secs(60));

/// A request whose tensors are guarded where `is_guarded` says so.
fn request(step: i64, tensors: &[Tensor], is_guarded: impl Fn(usize) -> bool) -> SaveRequest<'_> {
    let mut entry = state(tensors, &[]);
    if let EntrySource::State { tensors: given, .. } = &mut entry {
        for (index, (given, tensor)) in given.iter_mut().zip(tensors).enumerate() {
            if is_guarded(index) {
                given.data = TensorData::Guarded(Bytes::copy_from_slice(&tensor.data));
            }
        }
    }
    at(step, vec![entry])
}

fn tensors(sizes: &[usize]) -> Vec<Tensor> {
    sizes
        .iter()
        .enumerate()
        .map(|(index, &size)| Tensor {
            name: format!("layer.{index}"),
            dtype: "u8".parse().unwrap(),
            shape: vec![size as u64],
            data: noise(index as u64 + 7, size),
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(place::cases(16, 6)))]
    #[test]
    fn guarded_and_other_memory_come_back_equal(
        sizes in proptest::collection::vec(prop_oneof![0_usize..3000, 900_000_usize..1_200_000, Just(5 << 20)], 1..12),
        guarded in any::<u16>(),
    ) {
        let tensors = tensors(&sizes);
        let bench = Bench::new();
        let run = bench.run();
        let pending = run.save(request(1, &tensors, |index| guarded >> index & 1 == 1)).unwrap();
        prop_assert!(pending.wait_staged(LONG));
        pending.wait(None).unwrap();
        prop_assert_eq!(load(&bench.engine, pending.name()).unwrap(), expected(&tensors, &[]));
    }
}

#[test]
fn save_returns_before_guarded_memory_is_ready_and_finish_waits_for_it() {
    let tensors = tensors(&[3 << 20, 100, 2 << 20]);
    let bench = Bench::new();
    let run = bench.run();
    let (arrived, device) = mpsc::channel::<()>();
    let mut request = request(1, &tensors, |index| index != 1);
    request.ready = Some(Box::new(move || {
        device.recv().unwrap();
        Ok(())
    }));
    let pending = run.save(request).unwrap();
    assert!(!pending.wait_staged(SOON));
    assert!(!pending.done());
    // A deadline that comes first loses the save, and says so; one that does not waits for it.
    arrived.send(()).unwrap();
    let report = run.finish(None, None, LONG).unwrap();
    assert_eq!(report.saves, 1);
    assert!(pending.wait_staged(SOON));
    assert_eq!(
        load(&bench.engine, pending.name()).unwrap(),
        expected(&tensors, &[])
    );
}

#[test]
fn a_deadline_before_guarded_memory_is_staged_is_lost_data() {
    let tensors = tensors(&[3 << 20]);
    let bench = Bench::new();
    let run = bench.run();
    let (arrived, device) = mpsc::channel::<()>();
    let mut request = request(1, &tensors, |_| true);
    request.ready = Some(Box::new(move || {
        let _ = device.recv();
        Ok(())
    }));
    let pending = run.save(request).unwrap();
    let error = run.finish(None, None, SOON).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LostData);
    drop(arrived);
    assert!(pending.wait_staged(LONG));
}

#[test]
fn a_device_that_fails_fails_the_save_and_lets_the_step_go_on() {
    let tensors = tensors(&[3 << 20]);
    let bench = Bench::new();
    let run = bench.run();
    for size in [3 << 20, 1000] {
        let tensors = &tensors[..];
        let tensors: Vec<Tensor> = tensors
            .iter()
            .map(|tensor| Tensor {
                shape: vec![size as u64],
                data: tensor.data[..size].to_vec(),
                ..tensor.clone()
            })
            .collect();
        let mut request = request(1, &tensors, |_| true);
        request.ready = Some(Box::new(|| Err(Error::unavailable("the device is gone"))));
        let pending = run.save(request).unwrap();
        assert!(pending.wait_staged(LONG));
        let error = pending.wait(LONG).unwrap_err();
        assert!(error.chain().contains("the device is gone"), "{error}");
    }
    // The next one is not hurt.
    let pending = run.save(request(2, &tensors, |_| true)).unwrap();
    pending.wait(LONG).unwrap();
}

#[test]
fn a_panic_while_waiting_for_a_device_hangs_nobody() {
    let tensors = tensors(&[3 << 20]);
    let bench = Bench::new();
    let run = bench.run();
    let mut request = request(1, &tensors, |_| true);
    request.ready = Some(Box::new(|| panic!("on purpose")));
    let pending = run.save(request).unwrap();
    assert!(pending.wait_staged(LONG));
    assert_eq!(pending.wait(LONG).unwrap_err().kind(), ErrorKind::Internal);
}

#[test]
fn a_state_larger_than_the_staging_memory_is_copied_before_save_returns() {
    // 192 MiB into 128: in turns.
    let tensors = tensors(&[64 << 20, 64 << 20, 64 << 20]);
    let bench = Bench::new();
    bench.engine.limit_staging(1);
    let run = bench.run();
    let pending = run.save(request(1, &tensors, |_| true)).unwrap();
    assert!(pending.wait_staged(Some(Duration::ZERO)));
    pending.wait(None).unwrap();
    assert_eq!(
        load(&bench.engine, pending.name()).unwrap(),
        expected(&tensors, &[])
    );
}

#[test]
fn a_cancelled_save_is_still_waited_for_before_the_memory_may_change() {
    let tensors = tensors(&[3 << 20]);
    let bench = Bench::new();
    let run = bench.run();
    let (arrived, device) = mpsc::channel::<()>();
    let mut request = SaveRequest {
        if_busy: IfBusy::Skip,
        ..request(1, &tensors, |_| true)
    };
    request.ready = Some(Box::new(move || {
        device.recv().unwrap();
        Ok(())
    }));
    let pending = run.save(request).unwrap();
    pending.cancel();
    assert!(!pending.wait_staged(SOON));
    arrived.send(()).unwrap();
    assert!(pending.wait_staged(LONG));
    assert_eq!(pending.wait(LONG).unwrap_err().kind(), ErrorKind::Conflict);
}
