//! The inverse discrete cosine transform, bit-identical to libjpeg's accurate integer method
//! (`jidctint.c`; Loeffler, Ligtenberg and Moschytz 1989).

const BITS: u32 = 13;
/// Extra fractional bits between the first and the second pass.
const PASS: u32 = 2;

const F_0_298: i32 = 2446;
const F_0_390: i32 = 3196;
const F_0_541: i32 = 4433;
const F_0_765: i32 = 6270;
const F_0_899: i32 = 7373;
const F_1_175: i32 = 9633;
const F_1_501: i32 = 12299;
const F_1_847: i32 = 15137;
const F_1_961: i32 = 16069;
const F_2_053: i32 = 16819;
const F_2_562: i32 = 20995;
const F_3_072: i32 = 25172;

/// Transforms eight coefficients to eight values, scaled by 2^[`BITS`]. The arithmetic wraps,
/// because damaged files may hold any coefficients.
fn pass(x: [i32; 8]) -> [i32; 8] {
    let m = |a: i32, b: i32| a.wrapping_mul(b);
    let add = |a: i32, b: i32| a.wrapping_add(b);
    let sub = |a: i32, b: i32| a.wrapping_sub(b);
    // Even part.
    let z = m(add(x[2], x[6]), F_0_541);
    let (t2, t3) = (sub(z, m(x[6], F_1_847)), add(z, m(x[2], F_0_765)));
    let (t0, t1) = (add(x[0], x[4]).wrapping_shl(BITS), sub(x[0], x[4]).wrapping_shl(BITS));
    let (t10, t13, t11, t12) = (add(t0, t3), sub(t0, t3), add(t1, t2), sub(t1, t2));
    // Odd part.
    let (a, b, c, d) = (x[7], x[5], x[3], x[1]);
    let z5 = m(add(add(a, c), add(b, d)), F_1_175);
    let (z1, z2) = (m(add(a, d), -F_0_899), m(add(b, c), -F_2_562));
    let (z3, z4) = (add(m(add(a, c), -F_1_961), z5), add(m(add(b, d), -F_0_390), z5));
    let o0 = add(m(a, F_0_298), add(z1, z3));
    let o1 = add(m(b, F_2_053), add(z2, z4));
    let o2 = add(m(c, F_3_072), add(z2, z3));
    let o3 = add(m(d, F_1_501), add(z1, z4));
    [
        add(t10, o3),
        add(t11, o2),
        add(t12, o1),
        add(t13, o0),
        sub(t13, o0),
        sub(t12, o1),
        sub(t11, o2),
        sub(t10, o3),
    ]
}

fn descale(x: i32, bits: u32) -> i32 {
    x.wrapping_add(1 << (bits - 1)) >> bits
}

/// Dequantizes and transforms a block of coefficients in natural order to 8 x 8 samples, in rows
/// `stride` samples apart.
pub(super) fn block(
    coefficients: &[i16; 64],
    quantization: &[u16; 64],
    out: &mut [u8],
    stride: usize,
) {
    let at = |i: usize| i32::from(coefficients[i]).wrapping_mul(i32::from(quantization[i]));
    let mut middle = [[0i32; 8]; 8];
    for x in 0..8 {
        if (1..8).all(|y| coefficients[8 * y + x] == 0) {
            let flat = at(x).wrapping_shl(PASS);
            for row in &mut middle {
                row[x] = flat;
            }
            continue;
        }
        let column = pass(std::array::from_fn(|y| at(8 * y + x)));
        for (row, value) in middle.iter_mut().zip(column) {
            row[x] = descale(value, BITS - PASS);
        }
    }
    for (row, out) in middle.into_iter().zip(out.chunks_mut(stride)) {
        let values =
            pass(row).map(|v| (descale(v, BITS + PASS + 3).wrapping_add(128)).clamp(0, 255) as u8);
        out[..8].copy_from_slice(&values);
    }
}
