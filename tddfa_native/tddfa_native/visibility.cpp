// The visibility pass: which triangle is nearest at each pixel centre, and with which weights.
//
// Exactness. x and y are rounded to multiples of 2^-10 px. Relative to a pixel centre less than 4 px
// away they are 12-bit integers, so the products of an edge function are exact even in single
// precision, and their difference has the right sign; up to 2^16 px away the same holds for double
// precision. Still larger triangles take a path with error-free products. With the top-left rule
// each pixel centre of a closed surface patch therefore belongs to exactly one triangle.
//
// Speed. A dense face has about one pixel for two triangles.
// 1. With c = ceil(coordinate), clamped to the image, a triangle holds pixel columns min(c) to
//    max(c) - 1, because the top-left rule excludes its right and lower bounds. So it holds no pixel
//    centre if its three c agree in x or in y: exclusive ors of one packed word a vertex, 8 or 16
//    triangles at a time. This leaves a little more than half of them.
// 2. A branch a triangle would be mispredicted half the time. So every (small triangle, pixel) pair
//    is queued, and blocks of them are evaluated without branches by loops that compilers vectorise.
// 3. Only the pairs that hit are tested for depth and written, one store of 16 bytes each.

#include "raster.h"

#include <cmath>
#include <limits>

#include "instructions.h"

namespace tddfa {
namespace {

constexpr float kExactExtent = 60000.0f;  // px, below the 2^16 of the proof above
constexpr float kSmallReach = 3.0f;       // px from a pixel centre, below the 4 of the proof
constexpr int32_t kSmallSide = 3;         // px, largest box of a queued triangle
constexpr int32_t kBlock = 256;
constexpr uint32_t kNextColumn = 1, kNextRow = 1u << 16;  // steps of a packed pixel

// a * b - c * d with an error below one unit in the last place and the right sign (Kahan).
TDDFA_INLINE double product_difference(double a, double b, double c, double d) {
    const double p = a * b;
    const double q = c * d;
    return (p - q) + (std::fma(a, b, -p) - std::fma(c, d, -q));
}

struct Corner {
    float x, y, z;
};

struct Edge {
    double at_start, per_column, per_row;
    bool inclusive;
};

// Edge from p to q of a triangle with positive area in y-down coordinates, seen from pixel (x, y).
TDDFA_INLINE Edge make_edge(const Corner& p, const Corner& q, double x, double y) {
    const double px = p.x - x, py = p.y - y, qx = q.x - x, qy = q.y - y;
    return Edge{px * qy - py * qx, py - qy, qx - px,
                q.y < p.y || (q.y == p.y && q.x > p.x)};
}

TDDFA_INLINE bool inside(double value, bool inclusive) {
    return value > 0.0 || (value == 0.0 && inclusive);
}

struct Target {
    Pixel* pixels;
    int16_t* faces;
    int32_t width;
    int16_t face;
    bool cull_back;
};

// Of equally near triangles the first stays, whatever the order in which they come here.
TDDFA_INLINE void put(const Target& target, int64_t at, int32_t triangle, float weight1,
                      float weight2, float depth) {
    Pixel& pixel = target.pixels[at];
    const bool nearer = depth > pixel.depth;
    if (nearer || (depth == pixel.depth && target.faces[at] == target.face &&
                   triangle < pixel.triangle)) {
        pixel = Pixel{depth, triangle, weight1, weight2};
        target.faces[at] = target.face;
    }
}

TDDFA_INLINE void put_pixel(const Target& target, int64_t at, int32_t triangle, bool swapped,
                            const Corner& a, const Corner& b, const Corner& c, double w1,
                            double w2) {
    const double z = a.z + w1 * (double(b.z) - a.z) + w2 * (double(c.z) - a.z);
    put(target, at, triangle, static_cast<float>(swapped ? w2 : w1),
        static_cast<float>(swapped ? w1 : w2), static_cast<float>(z));
}

// A triangle too wide for plain doubles: each edge function on its own, without rounding trouble.
void draw_wide(const Target& target, const Corner& a, const Corner& b, const Corner& c,
               const Window& box, int32_t triangle, bool swapped) {
    const bool in0 = make_edge(b, c, 0, 0).inclusive;
    const bool in1 = make_edge(c, a, 0, 0).inclusive;
    const bool in2 = make_edge(a, b, 0, 0).inclusive;
    for (int32_t y = box.y0; y < box.y1; ++y) {
        for (int32_t x = box.x0; x < box.x1; ++x) {
            const double ax = double(a.x) - x, ay = double(a.y) - y;
            const double bx = double(b.x) - x, by = double(b.y) - y;
            const double cx = double(c.x) - x, cy = double(c.y) - y;
            const double e0 = product_difference(bx, cy, by, cx);
            const double e1 = product_difference(cx, ay, cy, ax);
            const double e2 = product_difference(ax, by, ay, bx);
            if (!(inside(e0, in0) && inside(e1, in1) && inside(e2, in2))) continue;
            const double scale = 1.0 / (e0 + e1 + e2);
            put_pixel(target, int64_t(y) * target.width + x, triangle, swapped, a, b, c, e1 * scale,
                      e2 * scale);
        }
    }
}

TDDFA_INLINE int32_t least(int32_t a, int32_t b) { return a < b ? a : b; }
TDDFA_INLINE int32_t most(int32_t a, int32_t b) { return a > b ? a : b; }
TDDFA_INLINE float spread(float a, float b, float c) {
    const float low = a < b ? a : b, high = a < b ? b : a;
    return (high > c ? high : c) - (low < c ? low : c);
}

TDDFA_INLINE Window box_of(uint32_t a, uint32_t b, uint32_t c) {
    const int32_t xa = a & 0xffff, xb = b & 0xffff, xc = c & 0xffff;
    const int32_t ya = a >> 16, yb = b >> 16, yc = c >> 16;
    return Window{least(xa, least(xb, xc)), least(ya, least(yb, yc)), most(xa, most(xb, xc)),
                  most(ya, most(yb, yc))};
}

// Any triangle, over the given pixels of its bounds.
void draw_triangle(const Target& target, const Corner& a, const Corner& b0, const Corner& c0,
                   const Window& box, int32_t triangle) {
    const double area = product_difference(double(b0.x) - a.x, double(c0.y) - a.y,
                                           double(b0.y) - a.y, double(c0.x) - a.x);
    if (!(area > 0.0 || area < 0.0)) return;  // degenerate, or a corner that is not a number
    // Counter-clockwise to the viewer is a negative area where y points down.
    const bool swapped = area < 0.0;
    if (target.cull_back && !swapped) return;
    const Corner& b = swapped ? c0 : b0;
    const Corner& c = swapped ? b0 : c0;
    if (!(spread(a.x, b.x, c.x) < kExactExtent && spread(a.y, b.y, c.y) < kExactExtent)) {
        draw_wide(target, a, b, c, box, triangle, swapped);
        return;
    }
    const Edge edge0 = make_edge(b, c, box.x0, box.y0);
    const Edge edge1 = make_edge(c, a, box.x0, box.y0);
    const Edge edge2 = make_edge(a, b, box.x0, box.y0);
    const double scale = 1.0 / std::fabs(area);
    double row0 = edge0.at_start, row1 = edge1.at_start, row2 = edge2.at_start;
    for (int32_t y = box.y0; y < box.y1; ++y) {
        double e0 = row0, e1 = row1, e2 = row2;
        int64_t at = int64_t(y) * target.width + box.x0;
        for (int32_t x = box.x0; x < box.x1; ++x, ++at) {
            if (inside(e0, edge0.inclusive) && inside(e1, edge1.inclusive) &&
                inside(e2, edge2.inclusive)) {
                put_pixel(target, at, triangle, swapped, a, b, c, e1 * scale, e2 * scale);
            }
            e0 += edge0.per_column;
            e1 += edge1.per_column;
            e2 += edge2.per_column;
        }
        row0 += edge0.per_row;
        row1 += edge1.per_row;
        row2 += edge2.per_row;
    }
}

// ---- small triangles: pairs of triangle and pixel, in blocks

struct Drawable {
    const float* vertices;
    const Point* points;
    const uint32_t* cells;
    Columns columns;

    Corner corner(int32_t v) const {
        return Corner{points[v].x, points[v].y, vertices[3 * int64_t(v) + 2]};
    }
};

enum Outcome { kMiss = 0, kHit = 1, kUndecided = 2 };  // undecided counts, hit or not

struct Queue {
    Point a[kBlock], b[kBlock], c[kBlock];
    uint32_t pixel[kBlock];  // column | row << 16
    int32_t triangle[kBlock];
    float weight1[kBlock], weight2[kBlock];
    int32_t outcome[kBlock];
    int32_t count;
};

TDDFA_INLINE void evaluate_body(Queue& q, bool cull_back) {
    const int32_t positive_counts = !cull_back;
    for (int32_t i = 0; i < kBlock; ++i) {
        const float x = static_cast<float>(static_cast<int32_t>(q.pixel[i] & 0xffffu));
        const float y = static_cast<float>(static_cast<int32_t>(q.pixel[i] >> 16));
        const float ax = q.a[i].x - x, ay = q.a[i].y - y;
        const float bx = q.b[i].x - x, by = q.b[i].y - y;
        const float cx = q.c[i].x - x, cy = q.c[i].y - y;
        const float e0 = bx * cy - by * cx;
        const float e1 = cx * ay - cy * ax;
        const float e2 = ax * by - ay * bx;
        const float scale = 1.0f / (e0 + e1 + e2);
        q.weight1[i] = e1 * scale;
        q.weight2[i] = e2 * scale;
        const int32_t positive = (e0 > 0.0f) & (e1 > 0.0f) & (e2 > 0.0f);
        const int32_t negative = (e0 < 0.0f) & (e1 < 0.0f) & (e2 < 0.0f);
        const int32_t on_edge = (e0 == 0.0f) | (e1 == 0.0f) | (e2 == 0.0f);
        // Only a triangle that the image's border clips can reach so far.
        const int32_t far = (std::fabs(ax) > kSmallReach) | (std::fabs(ay) > kSmallReach) |
                            (std::fabs(bx) > kSmallReach) | (std::fabs(by) > kSmallReach) |
                            (std::fabs(cx) > kSmallReach) | (std::fabs(cy) > kSmallReach);
        q.outcome[i] = (positive & positive_counts) | negative | ((on_edge | far) << 1);
    }
}

#ifdef TDDFA_X86
TDDFA_AVX2 void evaluate_avx2(Queue& q, bool cull_back) { evaluate_body(q, cull_back); }
TDDFA_AVX512 void evaluate_avx512(Queue& q, bool cull_back) { evaluate_body(q, cull_back); }
#endif

void evaluate(Queue& q, bool cull_back) {
    switch (instructions()) {
#ifdef TDDFA_X86
        case kAvx512:
            return evaluate_avx512(q, cull_back);
        case kAvx2:
            return evaluate_avx2(q, cull_back);
#endif
        default:
            return evaluate_body(q, cull_back);
    }
}

void flush(const Target& target, const Drawable& mesh, Queue& q) {
    evaluate(q, target.cull_back);
    int32_t drawn[kBlock];
    int32_t found = 0;
    for (int32_t i = 0; i < q.count; ++i) {
        drawn[found] = i;
        found += q.outcome[i] != kMiss;
    }
    const float* z = mesh.vertices + 2;
    for (int32_t k = 0; k < found; ++k) {
        const int32_t i = drawn[k];
        const int32_t t = q.triangle[i];
        const int32_t x = q.pixel[i] & 0xffffu, y = q.pixel[i] >> 16;
        const int32_t a = mesh.columns.t0[t], b = mesh.columns.t1[t], c = mesh.columns.t2[t];
        if (q.outcome[i] & kUndecided) {
            draw_triangle(target, mesh.corner(a), mesh.corner(b), mesh.corner(c),
                          Window{x, y, x + 1, y + 1}, t);
            continue;
        }
        const float w1 = q.weight1[i], w2 = q.weight2[i];
        // In double precision, as the difference of two large depths may exceed single precision.
        const double za = z[3 * int64_t(a)], zb = z[3 * int64_t(b)], zc = z[3 * int64_t(c)];
        put(target, int64_t(y) * target.width + x, t, w1, w2,
            static_cast<float>(za + w1 * (zb - za) + w2 * (zc - za)));
    }
    q.count = 0;
}

TDDFA_INLINE void set_pair(Queue& q, int32_t i, const Point& a, const Point& b, const Point& c,
                           int32_t triangle, uint32_t pixel) {
    q.a[i] = a;
    q.b[i] = b;
    q.c[i] = c;
    q.triangle[i] = triangle;
    q.pixel[i] = pixel;
}

void draw_one_pixel_candidates(const Target& target, const Drawable& mesh,
                               const Candidates& candidates, Queue& q) {
    const Columns columns = mesh.columns;
    const Point* points = mesh.points;
    for (int32_t begin = 0; begin < candidates.one_count; begin += kBlock) {
        const int32_t rest = candidates.one_count - begin;
        q.count = rest < kBlock ? rest : kBlock;
        for (int32_t i = 0; i < q.count; ++i) {
            const int32_t t = candidates.one_triangle[begin + i];
            set_pair(q, i, points[columns.t0[t]], points[columns.t1[t]], points[columns.t2[t]], t,
                     candidates.one_pixel[begin + i]);
        }
        flush(target, mesh, q);
    }
}

void draw_other_candidates(const Target& target, const Drawable& mesh,
                           const Candidates& candidates, Queue& q) {
    const Columns columns = mesh.columns;
    int32_t queued = 0;
    for (int32_t k = 0; k < candidates.several_count; ++k) {
        const int32_t t = candidates.several_triangle[k];
        const int32_t ia = columns.t0[t], ib = columns.t1[t], ic = columns.t2[t];
        const Window box = box_of(mesh.cells[ia], mesh.cells[ib], mesh.cells[ic]);
        const int32_t wide = box.x1 - box.x0, high = box.y1 - box.y0;
        if (wide > kSmallSide || high > kSmallSide) {
            draw_triangle(target, mesh.corner(ia), mesh.corner(ib), mesh.corner(ic), box, t);
            continue;
        }
        if (queued + kSmallSide * kSmallSide > kBlock) {
            q.count = queued;
            flush(target, mesh, q);
            queued = 0;
        }
        const Point a = mesh.points[ia], b = mesh.points[ib], c = mesh.points[ic];
        const uint32_t first = uint32_t(box.x0) | uint32_t(box.y0) << 16;
        if (wide + high == 3) {  // nearly all: two pixels side by side
            set_pair(q, queued++, a, b, c, t, first);
            set_pair(q, queued++, a, b, c, t, first + (wide == 2 ? kNextColumn : kNextRow));
            continue;
        }
        for (int32_t y = 0; y < high; ++y) {
            for (int32_t x = 0; x < wide; ++x) {
                set_pair(q, queued++, a, b, c, t, first + x * kNextColumn + y * kNextRow);
            }
        }
    }
    q.count = queued;
    flush(target, mesh, q);
}

}  // namespace

int32_t draw_mesh(const float* vertices, const Point* points, const uint32_t* cells,
                  const int32_t* columns, int32_t triangle_count, int32_t* scratch, int16_t face,
                  bool cull_back, Pixel* pixels, int16_t* faces, int32_t width) {
    const Columns t{columns, columns + triangle_count, columns + 2 * int64_t(triangle_count)};
    const Candidates candidates = sort_out_triangles(cells, t, triangle_count, scratch);
    const Target target{pixels, faces, width, face, cull_back};
    const Drawable mesh{vertices, points, cells, t};
    Queue queue = {};
    draw_one_pixel_candidates(target, mesh, candidates, queue);
    draw_other_candidates(target, mesh, candidates, queue);
    return candidates.one_count + candidates.several_count;
}

void clear_window(Pixel* pixels, int16_t* faces, int32_t width, Window window) {
    const Pixel empty{-std::numeric_limits<float>::infinity(), -1, 0.0f, 0.0f};
    for (int32_t y = window.y0; y < window.y1; ++y) {
        const int64_t row = int64_t(y) * width;
        for (int64_t at = row + window.x0; at < row + window.x1; ++at) pixels[at] = empty;
        for (int64_t at = row + window.x0; at < row + window.x1; ++at) faces[at] = -1;
    }
}

}  // namespace tddfa
