"""The C functions that an exported network is made of: templates with the types of their arguments left open."""

from __future__ import annotations

READER = """\
/* Weights of -1, 0 and 1 come five to a byte: the byte is a fraction of 256, and its digits in base 3 come out one
   after the other by taking it three times. */
typedef struct {
    const uint8_t *bytes;
    uint8_t fraction;
    uint8_t left;
} weights;

static weights weights_at(const uint8_t *bytes)
{
    weights w;
    w.bytes = bytes;
    w.fraction = 0;
    w.left = 0;
    return w;
}

static int next_weight(weights *w)
{
    unsigned three_times;
    if (w->left == 0) {
        w->fraction = *w->bytes++;
        w->left = 5;
    }
    w->left--;
    three_times = (unsigned)w->fraction + w->fraction + w->fraction;
    w->fraction = (uint8_t)(three_times & 255);
    return (int)(three_times >> 8) - 1;
}
"""

WINDOW = """\
/* A window that moves over the planes of a tensor. What is counted in elements: a plane, a step down by one stride
   or by one dilation of the window, and the padding above it. */
typedef struct {
    int channels, height, width, plane;
    int out_height, out_width, out_plane;
    int kernel_height, kernel_width;
    int stride_y, stride_x, dilation_y, dilation_x, padding_y, padding_x;
    int stride_down, dilation_down, padding_above;
} window;
"""

SHIFTS = {
    "plus": {"more": "", "what": "Adds", "body": "out[x] = (${B})(out[x] + plane[from]);"},
    "minus": {"more": "", "what": "Takes away", "body": "out[x] = (${B})(out[x] - plane[from]);"},
    "times": {"more": ", int weight", "what": "Adds, times a weight", "body": "out[x] += (int32_t)weight * plane[from];"},
    "greatest": {
        "more": "",
        "what": "Takes over, where it is greater",
        "body": "if (plane[from] > out[x])\n                    out[x] = plane[from];",
    },
}

LINEAR_TERNARY = """\
static int32_t linear_ternary_$a(weights *w, const ${A} *in, int size)
{
    int32_t sum = 0;
    while (size-- > 0) {
        int weight = next_weight(w);
        if (weight > 0)
            sum += *in;
        else if (weight < 0)
            sum -= *in;
        in++;
    }
    return sum;
}
"""

LINEAR_INT8 = """\
static int32_t linear_int8_$a(const int8_t *w, const ${A} *in, int size)
{
    int32_t sum = 0;
    while (size-- > 0)
        sum += (int32_t)*w++ * *in++;
    return sum;
}
"""

LINEAR_REAL = """\
static NETWORK_REAL linear_real_$a(const NETWORK_REAL *w, const ${A} *in, int size)
{
    NETWORK_REAL sum = 0;
    while (size-- > 0)
        sum += *w++ * (NETWORK_REAL)*in++;
    return sum;
}
"""

SHIFTED = """\
/* ${what}, at every place of the window,
   what the plane has under one of the window's elements, unless that lies in the padding. `top` and `left` say where
   this element starts; `at` is `top`, counted in elements. */
static void ${verb}_${a}_${b}(${B} *out, const ${A} *plane, const window *p, int top, int left, int at${more})
{
    int x, y, from, first = 0, end;
    while (left < 0) {
        left += p->stride_x;
        first++;
    }
    for (end = first, x = left; end < p->out_width && x < p->width; x += p->stride_x)
        end++;
    for (y = 0; y < p->out_height; y++) {
        if (top >= 0 && top < p->height)
            for (x = first, from = at + left; x < end; x++, from += p->stride_x)
                ${body}
        top += p->stride_y;
        at += p->stride_down;
        out += p->out_width;
    }
}
"""

CONVOLVE_TERNARY = """\
static void convolve_ternary_$a(weights *w, const ${A} *in, int32_t *sums, const window *p)
{
    int i, channel, ky, kx, top, left, at, weight;
    for (i = 0; i < p->out_plane; i++)
        sums[i] = 0;
    for (channel = 0; channel < p->channels; channel++, in += p->plane)
        for (ky = 0, top = -p->padding_y, at = -p->padding_above; ky < p->kernel_height; ky++) {
            for (kx = 0, left = -p->padding_x; kx < p->kernel_width; kx++, left += p->dilation_x) {
                weight = next_weight(w);
                if (weight > 0)
                    plus_${a}_s32(sums, in, p, top, left, at);
                else if (weight < 0)
                    minus_${a}_s32(sums, in, p, top, left, at);
            }
            top += p->dilation_y;
            at += p->dilation_down;
        }
}
"""

CONVOLVE_INT8 = """\
static void convolve_int8_$a(const int8_t *w, const ${A} *in, int32_t *sums, const window *p)
{
    int i, channel, ky, kx, top, left, at;
    for (i = 0; i < p->out_plane; i++)
        sums[i] = 0;
    for (channel = 0; channel < p->channels; channel++, in += p->plane)
        for (ky = 0, top = -p->padding_y, at = -p->padding_above; ky < p->kernel_height; ky++) {
            for (kx = 0, left = -p->padding_x; kx < p->kernel_width; kx++, left += p->dilation_x)
                times_${a}_s32(sums, in, p, top, left, at, *w++);
            top += p->dilation_y;
            at += p->dilation_down;
        }
}
"""

POOL = """\
/* The ${what} of each window of each channel. */
static void ${what}_of_${a}_${b}(const ${A} *in, ${B} *out, const window *p)
{
    int i, channel, ky, kx, top, left, at;
    for (channel = 0; channel < p->channels; channel++, in += p->plane, out += p->out_plane) {
        for (i = 0; i < p->out_plane; i++)
            out[i] = ${start};
        for (ky = 0, top = -p->padding_y, at = -p->padding_above; ky < p->kernel_height; ky++) {
            for (kx = 0, left = -p->padding_x; kx < p->kernel_width; kx++, left += p->dilation_x)
                ${inner}(out, in, p, top, left, at);
            top += p->dilation_y;
            at += p->dilation_down;
        }
    }
}
"""

QUANTISE = """\
/* Each sum becomes the level whose number is the number of thresholds that it reaches: found by halving, as thresholds
   rise.${about} */
static void ${verb}_${a}_${b}_${c}(const ${A} *sums, ${B} *out, int size,
    const ${C} *thresholds, int steps, const ${B} *levels${more})
{
    while (size-- > 0) {
        int below = 0, left = steps, half;
        int32_t sum = ${sum};
        const ${C} *t = thresholds${at};
        while (left > 0) {
            half = left >> 1;
            if (sum >= t[below + half]) {
                below += half + 1;
                left -= half + 1;
            } else {
                left = half;
            }
        }
        *out++ = levels[below];
        sums++;
    }
}
"""

PLACED = " Near the border thresholds are others: `places` says for each sum where its own begin."


def quantise(places: str, turned: bool) -> dict[str, str]:
    """What fills `QUANTISE`: the type of `places`, empty where all sums share thresholds; channels that may be turned."""
    return {
        "verb": "quantise" + f"_by_{places}" * bool(places) + "_turned" * turned,
        "about": PLACED if places else "",
        "more": (f", const {places}_t *places" if places else "") + (", int sign" if turned else ""),
        "sum": "sign < 0 ? -(int32_t)*sums : *sums" if turned else "*sums",
        "at": " + *places++" if places else "",
    }


ADD = """\
static void add_${a}_${b}_${c}(const ${A} *one, const ${B} *other, ${C} *out, int size)
{
    while (size-- > 0)
        *out++ = (${C})(*one++ + *other++);
}
"""

JOIN = """\
static void join_${a}_${b}(const ${A} *in, ${B} *out, int size)
{
    while (size-- > 0)
        *out++ = (${B})*in++;
}
"""

COPY = """\
static void copy_$a(const ${A} *in, int32_t *out, int size)
{
    while (size-- > 0)
        *out++ = *in++;
}
"""

REAL = """
/* The type of the outputs. -D${NAME}_REAL=double gives all their digits. */
#ifndef ${NAME}_REAL
#define ${NAME}_REAL float
#endif
"""

HEADER = """\
/* ${name}.h: the numbers of an integer network, written by anabook. ${name}.c runs it.

   In between there are integers alone, and products only where a weight is not -1, 0 or 1. Tables are const, for flash.
   Where int has 16 bits, no tensor may have more than 32767 elements. */
#ifndef ${NAME}_H
#define ${NAME}_H

#include <stdint.h>

#define ${NAME}_INPUTS $inputs /* $shape, in rows; each from $low to $high */
#define ${NAME}_OUTPUTS $outputs
$real
/* Run the network on one input. Its memory is static: one call at a time. */
void ${name}_run(const $input *input, $result *output);

#ifdef ${NAME}_FEATURES
#define ${NAME}_FEATURES_SIZE $kept
/* The same; all that the steps before the outputs give goes to `features`, one step after the other. For tests. */
void ${name}_features(const $input *input, $result *output, int32_t *features);
#endif

#ifdef ${NAME}_TABLES /* what follows is for ${name}.c alone */

$tables

#endif
#endif
"""

SOURCE = """\
/* ${name}.c: runs the integer network whose numbers are in ${name}.h, in C99, without any library.
   Written by anabook. */
#define ${NAME}_TABLES
#include "${name}.h"

$functions
$windows
/* All the memory that it needs beside the stack: $peak bytes. Parts of it hold one tensor after the other. */
$buffers

#ifdef ${NAME}_FEATURES
$copies
static int32_t *kept;
#define KEEP(copy, from, size, at) if (kept) copy(from, kept + (at), size)
#else
#define KEEP(copy, from, size, at)
#endif

void ${name}_run(const $input *input, $result *output)
{
$body
}

#ifdef ${NAME}_FEATURES
void ${name}_features(const $input *input, $result *output, int32_t *features)
{
    kept = features;
    ${name}_run(input, output);
    kept = 0;
}
#endif
"""
