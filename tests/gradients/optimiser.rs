//! Updates of parameters: several steps against the same formulas in double precision, and one element against PyTorch.

use crate::support::{Rng, allclose, devices, run_op};
use atrous::ops::{AdamW, Op, Sgd};
use atrous::{Data, Shape, Tensor, TensorType};
use std::sync::Arc;

fn hyper(values: [f32; 4]) -> Tensor {
    Tensor::from_data(Shape::vector(4), Data::F32(values.to_vec())).unwrap()
}

/// Runs `steps` updates with the same gradients on every device: `op` on `[w, g, states.., hyper]`. The results of the last one.
fn descend(op: impl Op, states: usize, w: &Tensor, gradients: &[Tensor], hypers: &[Tensor], check: impl Fn(&str, &[Tensor])) {
    let op: Arc<dyn Op> = Arc::new(op);
    for device in devices() {
        let mut now: Vec<Tensor> = std::iter::once(w.clone()).chain((0..states).map(|_| Tensor::zeros(w.ty()))).collect();
        for (g, hyper) in gradients.iter().zip(hypers) {
            let mut inputs = vec![now[0].clone(), g.clone()];
            inputs.extend_from_slice(&now[1..]);
            inputs.push(hyper.clone());
            now = run_op(&device, &op, &inputs).unwrap().swap_remove(0).1;
        }
        check(&device.to_string(), &now);
    }
}

#[test]
fn gradient_descent_with_momentum() {
    let mut rng = Rng(1);
    for shape in [Shape::new(3, 3, 5, 7), Shape::vector(1), Shape::new(1, 1, 6, 21)] {
        let w = rng.tensor(shape);
        let gradients: Vec<Tensor> = (0..4).map(|_| rng.tensor(shape)).collect();
        let rates = [0.1f32, 0.08, 0.06, 0.04];
        let hypers: Vec<Tensor> = rates.iter().map(|&r| hyper([r, 0.0, 0.0, 0.0])).collect();
        for (momentum, nesterov, decay, factor) in [(0.9, false, 1e-2, 1.0), (0.9, true, 1e-2, 10.0), (0.0, false, 0.0, 1.0)] {
            let (mut x, mut m) = (w.f32().iter().map(|&v| f64::from(v)).collect::<Vec<_>>(), vec![0.0; shape.len()]);
            for (g, rate) in gradients.iter().zip(rates) {
                for i in 0..x.len() {
                    let d = f64::from(g.f32()[i]) + f64::from(decay) * x[i];
                    m[i] = f64::from(momentum) * m[i] + d;
                    let direction = if nesterov { d + f64::from(momentum) * m[i] } else { m[i] };
                    x[i] -= f64::from(rate) * f64::from(factor) * direction;
                }
            }
            descend(Sgd { momentum, nesterov, decay, factor }, 1, &w, &gradients, &hypers, |device, got| {
                allclose(&format!("{shape} on {device}: weights"), &got[0], &x, 5e-6, 1e-6).unwrap();
                allclose(&format!("{shape} on {device}: momentum"), &got[1], &m, 2e-6, 1e-6).unwrap();
            });
        }
    }
}

#[test]
fn adam_w() {
    let mut rng = Rng(2);
    let shape = Shape::new(2, 1, 3, 9);
    let w = rng.tensor(shape);
    let gradients: Vec<Tensor> = (0..5).map(|_| rng.tensor(shape)).collect();
    let op = AdamW { betas: (0.9, 0.999), eps: 1e-8, decay: 0.02, factor: 0.5 };
    let hypers: Vec<Tensor> = (1..=5).map(|step| hyper(op.hyper(0.01, step))).collect();
    let (b1, b2, rate) = (f64::from(0.9f32), f64::from(0.999f32), f64::from(0.01f32) * 0.5);
    let mut x: Vec<f64> = w.f32().iter().map(|&v| v.into()).collect();
    let (mut m, mut v) = (vec![0.0; x.len()], vec![0.0; x.len()]);
    for (t, g) in (1..).zip(&gradients) {
        for i in 0..x.len() {
            let g = f64::from(g.f32()[i]);
            m[i] = b1 * m[i] + (1.0 - b1) * g;
            v[i] = b2 * v[i] + (1.0 - b2) * g * g;
            let (mean, square) = (m[i] / (1.0 - b1.powi(t)), v[i] / (1.0 - b2.powi(t)));
            x[i] = x[i] * (1.0 - rate * f64::from(0.02f32)) - rate * mean / (square.sqrt() + 1e-8);
        }
    }
    descend(op, 2, &w, &gradients, &hypers, |device, got| {
        // The second moment is a small difference from 0 of (1 - b2), which single precision knows to 6e-5 of its size.
        allclose(&format!("{device}: weights"), &got[0], &x, 2e-6, 2e-6).unwrap();
        allclose(&format!("{device}: first moment"), &got[1], &m, 1e-6, 1e-5).unwrap();
        allclose(&format!("{device}: second moment"), &got[2], &v, 1e-8, 1e-4).unwrap();
    });
}

/// Three steps from 0.5 with gradients 0.3, -0.2, 0.1 and rate 0.1, as `torch.optim` makes them.
#[test]
fn updates_are_pytorchs() {
    let one = |value: f32| Tensor::from_data(Shape::vector(1), Data::F32(vec![value])).unwrap();
    let gradients = [0.3, -0.2, 0.1].map(one);
    let sgd = Sgd { momentum: 0.9, nesterov: false, decay: 0.01, factor: 1.0 };
    let plain = [(); 3].map(|()| hyper([0.1, 0.0, 0.0, 0.0]));
    let check = |want: f64| move |device: &str, got: &[Tensor]| allclose(device, &got[0], &[want], 1e-6, 0.0).unwrap();
    descend(sgd, 1, &one(0.5), &gradients, &plain, check(0.443991369));
    descend(Sgd { nesterov: true, ..sgd }, 1, &one(0.5), &gradients, &plain, check(0.428248985));
    let adam = AdamW { betas: (0.9, 0.999), eps: 1e-8, decay: 0.01, factor: 1.0 };
    let hypers = [1, 2, 3].map(|step| hyper(adam.hyper(0.1, step)));
    descend(adam, 2, &one(0.5), &gradients, &hypers, check(0.356412912));
}

#[test]
fn states_of_another_shape_are_refused() {
    let (w, other, hyper) =
        (TensorType::f32(Shape::vector(5)), TensorType::f32(Shape::vector(6)), TensorType::f32(Shape::vector(4)));
    let sgd = Sgd { momentum: 0.9, nesterov: false, decay: 0.0, factor: 1.0 };
    assert!(sgd.infer(&[w, w, w, hyper]).is_ok());
    assert!(sgd.infer(&[w, other, w, hyper]).is_err());
    assert!(sgd.infer(&[w, w, w, w]).is_err());
    assert!(Sgd { momentum: 1.0, ..sgd }.infer(&[w, w, w, hyper]).is_err());
    let adam = AdamW { betas: (0.9, 0.999), eps: 1e-8, decay: 0.0, factor: 1.0 };
    assert!(adam.infer(&[w, w, w, w, hyper]).is_ok());
    assert!(adam.infer(&[w, w, w, hyper]).is_err());
    assert!(AdamW { betas: (0.9, 1.0), ..adam }.infer(&[w, w, w, w, hyper]).is_err());
}
