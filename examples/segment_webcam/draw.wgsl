// Draws the painted frame and text panels over it.

struct Place {
    // Window size in pixels.
    window: vec2f,
    // Upper left corner and size of the drawn item, in window pixels.
    corner: vec2f,
    size: vec2f,
    // Size of the source: the frame or the panel's image.
    source: vec2f,
    // For the list of classes: number of rows, and minimum fraction of pixels for a class to be
    // listed.
    rows: u32,
    least: f32,
}

struct Corner {
    @builtin(position) position: vec4f,
    @location(0) at: vec2f,
}

@group(0) @binding(0) var<uniform> place: Place;
@group(0) @binding(1) var<storage, read> painted: array<u32>;
@group(0) @binding(2) var<storage, read> counts: array<u32>;
@group(0) @binding(3) var letters: texture_2d<f32>;

fn quad(index: u32, corner: vec2f, size: vec2f, from_row: vec2f) -> Corner {
    let unit = vec2f(f32(index & 1u), f32(index >> 1u));
    let pixel = corner + unit * size;
    let position = vec4f(pixel.x / place.window.x * 2.0 - 1.0, 1.0 - pixel.y / place.window.y * 2.0, 0.0, 1.0);
    return Corner(position, vec2f(unit.x, mix(from_row.x, from_row.y, unit.y)) * place.source);
}

@vertex
fn whole(@builtin(vertex_index) index: u32) -> Corner {
    return quad(index, place.corner, place.size, vec2f(0.0, 1.0));
}

// One row of the list of classes. Classes not present in the image are skipped, and later ones move
// up.
@vertex
fn class_row(@builtin(vertex_index) index: u32, @builtin(instance_index) row: u32) -> Corner {
    var all = 0u;
    for (var i = 0u; i < place.rows; i++) {
        all += counts[i];
    }
    let least = max(u32(place.least * f32(all)), 1u);
    var before = 0u;
    for (var i = 0u; i < row; i++) {
        before += select(0u, 1u, counts[i] >= least);
    }
    let height = place.size.y / f32(place.rows);
    let size = select(vec2f(0.0), vec2f(place.size.x, height), counts[row] >= least);
    let rows = vec2f(f32(row), f32(row + 1u)) / f32(place.rows);
    return quad(index, place.corner + vec2f(0.0, f32(before) * height), size, rows);
}

fn pixel(x: i32, y: i32) -> vec3f {
    let last = vec2i(place.source) - 1;
    let at = clamp(vec2i(x, y), vec2i(0), last);
    return unpack4x8unorm(painted[at.y * (last.x + 1) + at.x]).xyz;
}

@fragment
fn frame(corner: Corner) -> @location(0) vec4f {
    let at = corner.at - 0.5;
    if all(place.source == place.size) {
        let nearest = vec2i(round(at));
        return vec4f(pixel(nearest.x, nearest.y), 1.0);
    }
    let first = floor(at);
    let part = at - first;
    let x = i32(first.x);
    let y = i32(first.y);
    let upper = mix(pixel(x, y), pixel(x + 1, y), part.x);
    let lower = mix(pixel(x, y + 1), pixel(x + 1, y + 1), part.x);
    return vec4f(mix(upper, lower, part.y), 1.0);
}

@fragment
fn panel(corner: Corner) -> @location(0) vec4f {
    return textureLoad(letters, vec2i(corner.at), 0);
}
