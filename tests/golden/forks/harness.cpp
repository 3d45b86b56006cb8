// Runs one layer of a fork of Caffe on the CPU, forward and backward, for make_forks_golden.py.
//
//   harness IN OUT
//
// IN is text: lines "phase train", "seed 7", "backward 1", "index_tops 0",
// "down 2" (only so many bottoms get a gradient), "bottom NAME 2 3 4" with the numbers
// of the blob after it, "param NAME 3" likewise (as many as the layer has, or none, to keep its fillers'), "top NAME",
// "keep NAME", and last "layer" with a LayerParameter of Caffe's text format after it.
// OUT is text of the same form: "top", "param", "w" (parameters after the forward pass), "gout", "gin", "gp".

#include <cmath>
#include <fstream>
#include <iostream>
#include <limits>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include <google/protobuf/text_format.h>

#include "caffe/blob.hpp"
#include "caffe/common.hpp"
#include "caffe/filler.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"
#ifdef HARNESS_EXTRA
#include HARNESS_EXTRA
#endif

using caffe::Blob;
using std::string;
using std::vector;

typedef std::vector<int> Shape;

static void write(std::ofstream& out, const char* what, const string& name, const Shape& shape, const float* data,
                  int count) {
  out << what << " " << name;
  for (size_t i = 0; i < shape.size(); ++i) out << " " << shape[i];
  out << "\n";
  out.precision(9);
  for (int i = 0; i < count; ++i) {
    if (std::isnan(data[i])) out << "nan "; else out << data[i] << " ";
  }
  out << "\n";
}

int main(int argc, char** argv) {
  google::InitGoogleLogging(argv[0]);
  std::ifstream in(argv[1]);
  std::ofstream out(argv[2]);
  string line, phase = "train";
  int seed = 1, backward = 1, index_tops = 0, down_to = -1;
  vector<Blob<float>*> bottoms, tops;
  vector<string> names, top_names;
  std::map<string, Blob<float>*> by_name;
  vector<Blob<float>*> params;
  caffe::LayerParameter layer_param;
  while (std::getline(in, line)) {
    std::istringstream words(line);
    string word, name;
    words >> word;
    if (word == "phase") words >> phase;
    if (word == "seed") words >> seed;
    if (word == "backward") words >> backward;
    if (word == "index_tops") words >> index_tops;
    if (word == "down") words >> down_to;
    if (word == "bottom" || word == "param") {
      words >> name;
      Shape shape;
      int dim;
      while (words >> dim) shape.push_back(dim);
      Blob<float>* blob = new Blob<float>(shape);
      std::getline(in, line);
      const char* at = line.c_str();
      for (int i = 0; i < blob->count(); ++i) {
        char* end;
        blob->mutable_cpu_data()[i] = strtof(at, &end);
        CHECK(end != at) << "too few numbers for " << name;
        at = end;
      }
      if (word == "param") { params.push_back(blob); continue; }
      bottoms.push_back(blob);
      names.push_back(name);
      by_name[name] = blob;
    }
    if (word == "top") {
      words >> name;
      if (by_name.count(name)) {
        tops.push_back(by_name[name]);
      } else {
        tops.push_back(new Blob<float>());
        by_name[name] = tops.back();
      }
      top_names.push_back(name);
    }
    if (word == "layer") {
      std::stringstream rest;
      rest << in.rdbuf();
      CHECK(google::protobuf::TextFormat::ParseFromString(rest.str(), &layer_param));
    }
  }
  caffe::Caffe::set_mode(caffe::Caffe::CPU);
  caffe::Caffe::set_random_seed(seed);
  layer_param.set_phase(phase == "train" ? caffe::TRAIN : caffe::TEST);
  caffe::shared_ptr<caffe::Layer<float> > layer =
      caffe::LayerRegistry<float>::CreateLayer(layer_param);
  layer->SetUp(bottoms, tops);
  vector<caffe::shared_ptr<Blob<float> > >& blobs = layer->blobs();
  CHECK(params.empty() || params.size() == blobs.size()) << "parameters: " << blobs.size();
  for (size_t i = 0; i < blobs.size(); ++i) {
    std::ostringstream index;
    index << i;
    if (!params.empty()) {
      CHECK_EQ(params[i]->count(), blobs[i]->count());
      caffe::caffe_copy(blobs[i]->count(), params[i]->cpu_data(), blobs[i]->mutable_cpu_data());
    }
    caffe::caffe_set(blobs[i]->count(), 0.f, blobs[i]->mutable_cpu_diff());
    layer->set_param_propagate_down(i, true);
    write(out, "param", index.str(), blobs[i]->shape(), blobs[i]->cpu_data(), blobs[i]->count());
  }
  for (size_t i = 0; i < bottoms.size(); ++i)
    caffe::caffe_set(bottoms[i]->count(), std::numeric_limits<float>::quiet_NaN(), bottoms[i]->mutable_cpu_diff());
  caffe::Caffe::set_random_seed(seed);
  vector<Shape> bottom_shapes;
  layer->Forward(bottoms, tops);
  for (size_t i = 0; i < tops.size(); ++i)
    write(out, "out", top_names[i], tops[i]->shape(), tops[i]->cpu_data(), tops[i]->count());
  for (size_t i = 0; i < blobs.size(); ++i) {
    std::ostringstream index;
    index << i;
    write(out, "w", index.str(), blobs[i]->shape(), blobs[i]->cpu_data(), blobs[i]->count());
  }
  if (!backward) return 0;
  bool loss = false;
  for (size_t i = 0; i < tops.size(); ++i) loss = loss || layer->loss(i) != 0;
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  for (int i = 0; i < int(tops.size()); ++i) {
    float* diff = tops[i]->mutable_cpu_diff();
    if (!loss)
      for (int k = 0; k < tops[i]->count(); ++k) diff[k] = i < int(tops.size()) - index_tops ? normal(generator) : 0.f;
    if (loss ? layer->loss(i) != 0 : i < int(tops.size()) - index_tops)
      write(out, "gout", top_names[i], tops[i]->shape(), diff, tops[i]->count());
  }
  vector<bool> down;
  for (size_t i = 0; i < bottoms.size(); ++i) down.push_back(down_to < 0 ? layer->AllowForceBackward(i) : int(i) < down_to);
  layer->Backward(tops, down, bottoms);
  for (size_t i = 0; i < bottoms.size(); ++i)
    write(out, "gin", names[i], bottoms[i]->shape(), bottoms[i]->cpu_diff(), bottoms[i]->count());
  for (size_t i = 0; i < blobs.size(); ++i) {
    std::ostringstream index;
    index << i;
    write(out, "gp", index.str(), blobs[i]->shape(), blobs[i]->cpu_diff(), blobs[i]->count());
  }
  return 0;
}
