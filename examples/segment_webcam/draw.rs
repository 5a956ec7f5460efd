//! Draws the painted frame and text panels. The frame's shader reads the painted buffer directly,
//! so frames never leave the device.

use crate::panel::Panel;
use atrous::Size;
use atrous::engine::gpu::Gpu;
use atrous::live::Live;
use std::sync::Arc;

/// Classes that cover a smaller fraction of the image are not listed.
const MIN_SHARE: f32 = 0.005;

/// Upper left corner and size in window pixels.
type Place = ([f32; 2], [f32; 2]);

/// A draw call.
struct Item {
    uniform: wgpu::Buffer,
    bind_group: wgpu::BindGroup,
    size: [f32; 2],
    instances: u32,
}

/// The text panels.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// At the top, on the left.
    Status,
    /// At the bottom.
    Message,
    /// In the middle.
    Help,
    /// At the top, on the right: only classes present in the image.
    Classes,
}

const KINDS: [Kind; 4] = [Kind::Status, Kind::Message, Kind::Help, Kind::Classes];

/// Pipelines and their draw calls.
pub struct Renderer {
    gpu: Arc<Gpu>,
    frame_pipeline: wgpu::RenderPipeline,
    panel_pipeline: wgpu::RenderPipeline,
    classes_pipeline: wgpu::RenderPipeline,
    frame: Option<Item>,
    panels: [Option<Item>; KINDS.len()],
    /// Window pixels per text pixel.
    scale: f32,
}

impl Renderer {
    /// Creates the pipelines for a surface format that is not sRGB-encoded, because frames already
    /// are.
    pub fn new(gpu: &Arc<Gpu>, format: wgpu::TextureFormat, scale: f64) -> Self {
        let source = wgpu::ShaderSource::Wgsl(include_str!("draw.wgsl").into());
        let descriptor = wgpu::ShaderModuleDescriptor { label: Some("window"), source };
        let module = gpu.device().create_shader_module(descriptor);
        let pipeline = |vertex: &str, fragment: &str, blend: Option<wgpu::BlendState>| {
            let target =
                wgpu::ColorTargetState { format, blend, write_mask: wgpu::ColorWrites::ALL };
            gpu.device().create_render_pipeline(&wgpu::RenderPipelineDescriptor {
                label: Some(fragment),
                layout: None,
                vertex: wgpu::VertexState {
                    module: &module,
                    entry_point: Some(vertex),
                    compilation_options: Default::default(),
                    buffers: &[],
                },
                primitive: wgpu::PrimitiveState {
                    topology: wgpu::PrimitiveTopology::TriangleStrip,
                    ..Default::default()
                },
                depth_stencil: None,
                multisample: Default::default(),
                fragment: Some(wgpu::FragmentState {
                    module: &module,
                    entry_point: Some(fragment),
                    compilation_options: Default::default(),
                    targets: &[Some(target)],
                }),
                multiview_mask: None,
                cache: None,
            })
        };
        let over = Some(wgpu::BlendState::ALPHA_BLENDING);
        Self {
            frame_pipeline: pipeline("whole", "frame", None),
            panel_pipeline: pipeline("whole", "panel", over),
            classes_pipeline: pipeline("class_row", "panel", over),
            gpu: gpu.clone(),
            frame: None,
            panels: Default::default(),
            scale: (scale.round() as f32).max(1.0),
        }
    }

    fn item(
        &self,
        pipeline: &wgpu::RenderPipeline,
        size: [f32; 2],
        instances: u32,
        bindings: &[(u32, wgpu::BindingResource)],
    ) -> Item {
        let uniform = self.gpu.device().create_buffer(&wgpu::BufferDescriptor {
            label: Some("place"),
            size: 40,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut entries =
            vec![wgpu::BindGroupEntry { binding: 0, resource: uniform.as_entire_binding() }];
        entries.extend(
            bindings.iter().map(|(binding, r)| wgpu::BindGroupEntry {
                binding: *binding,
                resource: r.clone(),
            }),
        );
        let bind_group = self.gpu.device().create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("window"),
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        Item { uniform, bind_group, size, instances }
    }

    /// Draws the frames painted by `live`.
    pub fn show(&mut self, live: &Live) {
        let Size { width: w, height: h } = live.fit().source;
        let painted = live
            .store()
            .device_buffer("painted")
            .expect("invariant: frames are painted on the window's device");
        let bindings = [(1, painted.as_entire_binding())];
        self.frame = Some(self.item(&self.frame_pipeline, [w as f32, h as f32], 1, &bindings));
        // The panel refers to the counts of the previous network.
        self.panels[Kind::Classes as usize] = None;
    }

    /// Replaces or removes a panel.
    pub fn set_panel(&mut self, kind: Kind, panel: Option<&Panel>, live: &Live) {
        self.panels[kind as usize] = panel.map(|panel| {
            let size = wgpu::Extent3d {
                width: panel.width as u32,
                height: panel.height as u32,
                depth_or_array_layers: 1,
            };
            let texture = self.gpu.device().create_texture(&wgpu::TextureDescriptor {
                label: Some("text"),
                size,
                mip_level_count: 1,
                sample_count: 1,
                dimension: wgpu::TextureDimension::D2,
                format: wgpu::TextureFormat::Rgba8Unorm,
                usage: wgpu::TextureUsages::TEXTURE_BINDING | wgpu::TextureUsages::COPY_DST,
                view_formats: &[],
            });
            let layout = wgpu::TexelCopyBufferLayout {
                offset: 0,
                bytes_per_row: Some(4 * size.width),
                rows_per_image: Some(size.height),
            };
            self.gpu.queue().write_texture(texture.as_image_copy(), &panel.rgba, layout, size);
            let view = texture.create_view(&Default::default());
            let letters = (3, wgpu::BindingResource::TextureView(&view));
            let size = [panel.width as f32, panel.height as f32];
            match kind {
                Kind::Classes => {
                    let counts = live
                        .store()
                        .device_buffer("counts")
                        .expect("invariant: classes are counted on the window's device");
                    let rows = live.class_table().len() as u32;
                    self.item(
                        &self.classes_pipeline,
                        size,
                        rows,
                        &[(2, counts.as_entire_binding()), letters],
                    )
                }
                _ => self.item(&self.panel_pipeline, size, 1, &[letters]),
            }
        });
    }

    /// Returns whether a panel is shown.
    pub fn has(&self, kind: Kind) -> bool {
        self.panels[kind as usize].is_some()
    }

    /// Returns the place of a panel in a window of the given size.
    fn panel_place(&self, kind: Kind, item: &Item, [w, h]: [f32; 2]) -> Place {
        let size = item.size.map(|side| side * self.scale);
        let corner = match kind {
            Kind::Status => [0.0, 0.0],
            Kind::Message => [0.0, h - size[1]],
            Kind::Help => [((w - size[0]) / 2.0).floor(), ((h - size[1]) / 2.0).floor()],
            // Below the status line.
            Kind::Classes => [
                w - size[0],
                self.panels[Kind::Status as usize].as_ref().map_or(0.0, |s| s.size[1] * self.scale),
            ],
        };
        (corner, size)
    }

    fn place(&self, item: &Item, window: [f32; 2], (corner, size): Place) {
        let numbers = [window, corner, size, item.size].concat();
        let mut bytes: Vec<u8> = bytemuck::cast_slice(&numbers).to_vec();
        bytes.extend(item.instances.to_le_bytes());
        bytes.extend(MIN_SHARE.to_le_bytes());
        self.gpu.queue().write_buffer(&item.uniform, 0, &bytes);
    }

    /// Draws everything to a window texture of `[width, height]` pixels.
    pub fn draw(&self, target: &wgpu::Texture, window: [f32; 2]) {
        let view = target.create_view(&Default::default());
        let mut encoder = self
            .gpu
            .device()
            .create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("window") });
        {
            let attachment = wgpu::RenderPassColorAttachment {
                view: &view,
                depth_slice: None,
                resolve_target: None,
                ops: wgpu::Operations {
                    load: wgpu::LoadOp::Clear(wgpu::Color::BLACK),
                    store: wgpu::StoreOp::Store,
                },
            };
            let mut pass = encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
                label: Some("window"),
                color_attachments: &[Some(attachment)],
                ..Default::default()
            });
            let mut call = |pipeline: &wgpu::RenderPipeline, item: &Item, place: Place| {
                self.place(item, window, place);
                pass.set_pipeline(pipeline);
                pass.set_bind_group(0, &item.bind_group, &[]);
                pass.draw(0..4, 0..item.instances);
            };
            if let Some(item) = &self.frame {
                call(&self.frame_pipeline, item, fitted(item.size, window));
            }
            for kind in KINDS {
                if let Some(item) = &self.panels[kind as usize] {
                    let pipeline = if kind == Kind::Classes {
                        &self.classes_pipeline
                    } else {
                        &self.panel_pipeline
                    };
                    call(pipeline, item, self.panel_place(kind, item, window));
                }
            }
        }
        self.gpu.queue().submit([encoder.finish()]);
    }
}

/// Returns the largest centered place with a frame's aspect ratio, in whole pixels.
fn fitted([w, h]: [f32; 2], window: [f32; 2]) -> Place {
    let scale = (window[0] / w).min(window[1] / h);
    let size = [(w * scale).round().max(1.0), (h * scale).round().max(1.0)];
    ([((window[0] - size[0]) / 2.0).floor(), ((window[1] - size[1]) / 2.0).floor()], size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_keep_their_shape_in_the_window() {
        assert_eq!(fitted([640.0, 480.0], [640.0, 480.0]), ([0.0, 0.0], [640.0, 480.0]));
        assert_eq!(fitted([640.0, 480.0], [1000.0, 480.0]), ([180.0, 0.0], [640.0, 480.0]));
        assert_eq!(fitted([10.0, 40.0], [100.0, 80.0]), ([40.0, 0.0], [20.0, 80.0]));
    }
}
